package appcmd

// place chooses between the two names that the folder of 64-bit programs has: a 32-bit program that opens System32 is led elsewhere, and
// sees it as Sysnative.
func place(windows string, redirected bool) string {
	folder := "System32"
	if redirected {
		folder = "Sysnative"
	}
	return windows + `\` + folder + `\inetsrv\appcmd.exe`
}
