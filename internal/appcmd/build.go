package appcmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// about starts a command on one object, which is always named by /site.name: and the like: a bare name that begins with a dash or a slash
// would be taken for a parameter.
func about(v Verb, o Object, id string, err error) Command {
	c := Command{verb: v, object: o, id: id, err: err}
	if id == "" {
		return c
	}
	return c.with(plain("/" + string(o) + ".name:" + id))
}

// ListSites lists all sites, or the one that is named.
func ListSites(name string) Command { return listed(SiteObject, name, CheckSiteName) }

// ListPools lists all application pools, or the one that is named.
func ListPools(name string) Command { return listed(PoolObject, name, CheckPoolName) }

// ListApps lists all applications, or those of the site that is named.
func ListApps(site string) Command {
	c := Command{verb: List, object: AppObject, id: site}
	if site == "" {
		return c
	}
	c.err = CheckSiteName(site)
	return c.with(plain("/site.name:" + site))
}

// ListVDirs lists all virtual directories, or those of one application: "Site/" or "Site/app".
func ListVDirs(app string) Command {
	c := Command{verb: List, object: VDirObject, id: app}
	if app == "" {
		return c
	}
	c.err = checkAppName(app)
	return c.with(plain("/app.name:" + app))
}

// ListWPs lists the worker processes, of all pools or of the one that is named.
func ListWPs(pool string) Command {
	c := Command{verb: List, object: WPObject, id: pool}
	if pool == "" {
		return c
	}
	c.err = CheckPoolName(pool)
	return c.with(plain("/apppool.name:" + pool))
}

// RequestFilter narrows a list of requests. Zero fields narrow nothing; all others must hold.
type RequestFilter struct {
	Site    string        // name of a site
	SiteID  uint32        // number of a site
	Pool    string        // name of a pool
	PID     int           // of a worker process
	Elapsed time.Duration // only those that have run for at least this long, in whole ms
}

// ListRequests lists the requests that worker processes are executing now. It needs the feature Request Monitor (else NotImplemented).
func ListRequests(f RequestFilter) Command {
	c := Command{verb: List, object: RequestObject}
	if f.Site != "" {
		c = c.fail(CheckSiteName(f.Site)).with(plain("/site.name:" + f.Site))
	}
	if f.SiteID != 0 {
		c = c.with(plain(fmt.Sprintf("/site.id:%d", f.SiteID)))
	}
	if f.Pool != "" {
		c = c.fail(CheckPoolName(f.Pool)).with(plain("/apppool.name:" + f.Pool))
	}
	if f.PID != 0 {
		c = c.with(plain(fmt.Sprintf("/wp.name:%d", f.PID)))
	}
	if f.Elapsed > 0 {
		c = c.with(plain(fmt.Sprintf("/elapsed:%d", f.Elapsed.Milliseconds())))
	}
	return c
}

func listed(o Object, name string, check func(string) error) Command {
	var err error
	if name != "" {
		err = check(name)
	}
	return about(List, o, name, err)
}

// AddSite makes a site. With id 0 IIS takes the next number; with folder "" the site has no application yet.
func AddSite(name string, id uint32, folder string, bindings ...Binding) Command {
	c := Command{verb: Add, object: SiteObject, id: name, err: CheckSiteName(name)}
	c = c.with(plain("/name:" + name))
	if id != 0 {
		c = c.with(plain("/id:" + strconv.FormatUint(uint64(id), 10)))
	}
	if len(bindings) > 0 {
		c = c.withBindings(bindings)
	}
	if folder != "" {
		c = c.fail(CheckFolder(folder)).with(plain("/physicalPath:" + folder))
	}
	return c
}

func (c Command) withBindings(bindings []Binding) Command {
	texts := make([]string, len(bindings))
	for i, b := range bindings {
		c = c.fail(b.Check())
		texts[i] = b.String()
	}
	return c.with(plain("/bindings:" + strings.Join(texts, ",")))
}

// SetSite changes a site: add what is to change with With, Set, Append and Remove, relative to the site's own element; all of it is one
// commit. For its pool and folder: Set(Path{Item("path", "/")}, "applicationPool", ...). That several paths may stand in one set site is
// documented for each alone, not for all together.
func SetSite(name string) Command { return about(Set, SiteObject, name, CheckSiteName(name)) }

// SetBindings replaces all bindings of a site. What a binding has beside protocol and information, such as sslFlags and its certificate, is
// lost with it: prefer Append and Remove.
func SetBindings(site string, bindings ...Binding) Command {
	return SetSite(site).withBindings(bindings)
}

// DeleteSite removes a site, not its files.
func DeleteSite(name string) Command { return about(Delete, SiteObject, name, CheckSiteName(name)) }

// StartSite starts a site. It fails with Exists while another started site has one of its bindings, and with NotReady while WAS has not yet
// read the commit that made it. serverAutoStart stays as it is.
func StartSite(name string) Command { return about(Start, SiteObject, name, CheckSiteName(name)) }

// StopSite stops a site: no new requests. serverAutoStart stays as it is.
func StopSite(name string) Command { return about(Stop, SiteObject, name, CheckSiteName(name)) }

// AddPool makes an application pool.
func AddPool(name string) Command {
	return Command{verb: Add, object: PoolObject, id: name, err: CheckPoolName(name)}.with(plain("/name:" + name))
}

// SetPool changes an application pool: With("startMode", "AlwaysRunning"), or for what lies in an element of its own
// Set(Path{Elem("recycling")}, "disallowOverlappingRotation", "true").
func SetPool(name string) Command { return about(Set, PoolObject, name, CheckPoolName(name)) }

// DeletePool removes an application pool.
func DeletePool(name string) Command { return about(Delete, PoolObject, name, CheckPoolName(name)) }

// StartPool starts an application pool; see Wait. Starting a started one is an error on some versions (AlreadyDone): list first.
func StartPool(name string) Command { return about(Start, PoolObject, name, CheckPoolName(name)) }

// StopPool stops an application pool; requests that run are cut after its shutdownTimeLimit. It may return long before the worker process
// has gone, and was seen to block for as long as that takes.
func StopPool(name string) Command { return about(Stop, PoolObject, name, CheckPoolName(name)) }

// RecyclePool replaces the worker processes of a pool by new ones.
func RecyclePool(name string) Command { return about(Recycle, PoolObject, name, CheckPoolName(name)) }

// AppName is how appcmd names the application at path ("/", "/app") of a site: "Site/", "Site/app".
func AppName(site, path string) string { return site + path }

// VDirName is how appcmd names the virtual directory at dir ("/", "/files") of an application: "Site/", "Site/app/", "Site/app/files".
func VDirName(site, app, dir string) string { return site + strings.TrimSuffix(app, "/") + dir }

func checkAppName(name string) error {
	i := strings.IndexByte(name, '/')
	if i < 0 {
		return fmt.Errorf("application %q: want the site and the path, \"Site/\" or \"Site/app\"", name)
	}
	return multi.Join(CheckSiteName(name[:i]), CheckAppPath(name[i:]))
}

// AddApp makes an application at path of a site, in pool ("": the default one), with its files in folder.
func AddApp(site, path, pool, folder string) Command {
	c := Command{verb: Add, object: AppObject, id: AppName(site, path), err: multi.Join(CheckSiteName(site), CheckAppPath(path))}
	c = c.with(plain("/site.name:" + site)).with(plain("/path:" + path))
	if pool != "" {
		c = c.fail(CheckPoolName(pool)).with(plain("/applicationPool:" + pool))
	}
	if folder != "" {
		c = c.fail(CheckFolder(folder)).with(plain("/physicalPath:" + folder))
	}
	return c
}

// SetApp changes the application at path of a site.
func SetApp(site, path string) Command {
	return about(Set, AppObject, AppName(site, path), multi.Join(CheckSiteName(site), CheckAppPath(path)))
}

// DeleteApp removes the application at path of a site.
func DeleteApp(site, path string) Command {
	return about(Delete, AppObject, AppName(site, path), multi.Join(CheckSiteName(site), CheckAppPath(path)))
}

// AddVDir makes a virtual directory at dir of the application at app of a site.
func AddVDir(site, app, dir, folder string) Command {
	err := multi.Join(CheckSiteName(site), CheckAppPath(app), CheckAppPath(dir), CheckFolder(folder))
	c := Command{verb: Add, object: VDirObject, id: VDirName(site, app, dir), err: err}
	return c.with(plain("/app.name:" + AppName(site, app))).with(plain("/path:" + dir)).with(plain("/physicalPath:" + folder))
}

// SetVDir changes the virtual directory at dir of the application at app of a site.
func SetVDir(site, app, dir string) Command {
	return about(Set, VDirObject, VDirName(site, app, dir), multi.Join(CheckSiteName(site), CheckAppPath(app), CheckAppPath(dir)))
}

// DeleteVDir removes the virtual directory at dir of the application at app of a site.
func DeleteVDir(site, app, dir string) Command {
	return about(Delete, VDirObject, VDirName(site, app, dir), multi.Join(CheckSiteName(site), CheckAppPath(app), CheckAppPath(dir)))
}

// ListConfig shows a section as it is for location: "" for the server, or "Site", "Site/app".
func ListConfig(location, section string) Command { return config(List, location, section) }

// SetConfig changes a section for location: "" for the server, or "Site", "Site/app". All that is added to it by With, Set, Append and
// Remove is one commit, to applicationHost.config unless Commit says otherwise.
func SetConfig(location, section string) Command {
	return config(Set, location, section).Commit("apphost")
}

// ClearConfig removes what is set of a section for location, in applicationHost.config unless Commit says otherwise.
func ClearConfig(location, section string) Command {
	return config(Clear, location, section).Commit("apphost")
}

// UnlockConfig lets sites have a section of their own in their web.config files.
func UnlockConfig(section string) Command { return config(Unlock, "", section) }

// LockConfig is the opposite of UnlockConfig.
func LockConfig(section string) Command { return config(Lock, "", section) }

func config(v Verb, location, section string) Command {
	c := Command{verb: v, object: ConfigObject, id: section, err: CheckSection(section)}
	if location != "" {
		c = c.fail(checkLocation(location)).with(plain(location))
	}
	return c.with(plain("/section:" + section))
}

// checkLocation looks at the one identifier that is written bare.
func checkLocation(location string) error {
	if strings.ContainsAny(location[:1], "-/@") {
		return fmt.Errorf("location %q would be taken for a parameter", location)
	}
	site, path, found := strings.Cut(location, "/")
	if err := CheckSiteName(site); err != nil {
		return fmt.Errorf("location %q: %w", location, err)
	}
	if found && path != "" {
		return CheckAppPath("/" + path)
	}
	return nil
}

// ListBackups lists the backups of the server's configuration.
func ListBackups() Command { return Command{verb: List, object: BackupObject} }

// AddBackup makes a backup of the server's configuration. It is a folder of that name.
func AddBackup(name string) Command { return backup(Add, name) }

// DeleteBackup removes a backup.
func DeleteBackup(name string) Command { return backup(Delete, name) }

// RestoreBackup puts a backup in the place of the configuration. It stops the server while it does so: never with a live slot.
func RestoreBackup(name string) Command { return backup(Restore, name) }

func backup(v Verb, name string) Command {
	c := Command{verb: v, object: BackupObject, id: name, err: checkName("backup", name, notInFile+`/\:'`)}
	if name != "" && strings.ContainsAny(name[:1], "-./@") {
		c = c.fail(fmt.Errorf("backup %q would be taken for something else than a name", name))
	}
	return c.with(plain(name))
}
