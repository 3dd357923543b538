package appcmd_test

import (
	"fmt"

	"github.com/abswap/abswap/internal/appcmd"
)

// One commit that gives a site's root another pool and another folder.
func ExampleSetConfig() {
	cmd := appcmd.SetConfig("", appcmd.SectionSites).
		Set(appcmd.RootApp("My Site"), "applicationPool", "Pool#2").
		Set(appcmd.RootDir("My Site"), "physicalPath", `C:\inetpub\MySite.v1085`)
	fmt.Println(cmd)
	// Output:
	// appcmd set config /section:system.applicationHost/sites "/[name='My Site'].[path='/'].applicationPool:Pool#2" "/[name='My Site'].[path='/'].[path='/'].physicalPath:C:\inetpub\MySite.v1085" /commit:apphost
}

// One commit that moves a binding from one site to another.
func ExampleCommand_Append() {
	b := appcmd.Binding{Protocol: "http", Information: "*:80:"}
	cmd := appcmd.SetConfig("", appcmd.SectionSites).
		Remove(appcmd.Path{appcmd.Item("name", "A"), appcmd.Elem("bindings")}, appcmd.BindingItem(b)).
		Append(appcmd.Path{appcmd.Item("name", "B"), appcmd.Elem("bindings")}, appcmd.BindingItem(b))
	fmt.Println(cmd)
	// Output:
	// appcmd set config /section:system.applicationHost/sites "/-[name='A'].bindings.[protocol='http',bindingInformation='*:80:']" "/+[name='B'].bindings.[protocol='http',bindingInformation='*:80:']" /commit:apphost
}
