package proc

// DiesWithUs says why what Launch starts would be ended together with this process; "": nothing speaks for it.
func DiesWithUs() (string, error) { return "", nil }
