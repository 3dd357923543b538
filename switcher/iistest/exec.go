package iistest

type control struct{}

func (c *control) close() error { return nil }
