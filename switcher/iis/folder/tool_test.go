package folder_test

func tool() int { return 0 }
