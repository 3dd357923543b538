package folder_test

import "testing"

func mkfifo(t *testing.T, _ string) { t.Skip("no pipes in folders here") }
