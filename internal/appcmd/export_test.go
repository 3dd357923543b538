package appcmd

// Judge tells what error a command that printed text and ended with exit is.
func Judge(cmd Command, text string, exit uint32) error {
	return judge(cmd, Output{Text: text, Exit: exit})
}

// FindMessage looks for an error in any text.
func FindMessage(text string) (Message, bool) { return findMessage(text) }

// ParseBindings reads the bindings of a site in one line.
func ParseBindings(s string) ([]Binding, error) { return parseBindings(s) }

// Place is where appcmd lies below the folder of Windows.
func Place(windows string, redirected bool) string { return place(windows, redirected) }

// Classify tells the class of an error.
func Classify(exit, hresult uint32, message string) Class { return classify(exit, hresult, message) }

// ParseState reads the name of a state.
func ParseState(s string) State { return parseState(s) }

// ParseHResult reads an HRESULT in one of its forms.
func ParseHResult(s string) uint32 { return parseHResult(s) }
