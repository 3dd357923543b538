package process

import "strings"

func sameVariable(a, b string) bool { return strings.EqualFold(a, b) }
