package iis

// FactByName returns the fact of that name.
func FactByName(f Facts, name string) (Fact, error) { return f.value(name) }

// FactNames lists all facts.
func FactNames() []string {
	var names []string
	for _, f := range allFacts() {
		names = append(names, f.name)
	}
	return names
}

// FactsWith says Yes to the fact of that name, "" to none, and No to all others.
func FactsWith(name string) Facts {
	var f Facts
	for _, x := range allFacts() {
		*x.at(&f) = No
		if x.name == name {
			*x.at(&f) = Yes
		}
	}
	return f
}

// TableText is the table of the package's comment.
var TableText = tableText

// Server returns the server of the slot's application.
func (s *Slot) Server() *Server { return s.server() }

// Assume is what Check takes facts for.
func Assume(f Facts) Facts { return f.assume() }
