package h1

func (b *upload) splice(x *Exchange, u *Upstream) (bool, error) { return false, nil }

func (x *Exchange) spliceAnswer(u *Upstream, body *Body) (bool, error) { return false, nil }
