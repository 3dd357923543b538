// Package folder puts each release into a folder of its own, beside those of the releases before it: MySite.v1084, MySite.v1085. A slot of
// IIS is then pointed at one of them. A folder is complete or not there at all, it is never changed once it is there, and what was put into
// it is written down, so that any later run can tell whether it still is what it was.
//
//	in, err := folder.New(folder.Config{Parent: `C:\inetpub`, Name: "MySite"})
//	path, err := in.Install(ctx, abswap.Release{ID: "v1085", Path: `C:\build\out`}) // C:\inetpub\MySite.v1085
//	removed, err := in.Prune(ctx, folder.PruneOptions{Newest: 3, InUse: []string{path, live}})
//
// # How a folder is made
//
// Under a lock that excludes every other process working on the same Parent and Name, the source is listed, copied to MySite.v1085~part,
// which gets its access lists from the same parent as the finished folder would, read back and compared, and flushed to the disk. The source
// is listed again: if it changed meanwhile, nothing is installed. Then the manifest MySite.v1085~manifest.json is written, with the size and
// the SHA-256 of each file, and the folder gets its name in one move. A run that is killed anywhere leaves at most what the next run removes;
// what is removed is only what a manifest says was made here. The sign ~ stands in no release ID, so these names never meet a release's.
//
// What the source may hold: regular files and folders whose names Windows can bear. A symbolic link to a file within the source is copied as
// the file it leads to. A link that is absolute, leads out of the source or leads to a folder is refused, and so are junctions, devices,
// pipes and sockets. Names that differ only in case are refused too, on every system. Copies keep the time of last change, so that clients'
// caches stay valid over a deploy; they are never read-only.
//
// Parent should not itself be served: manifests in it tell the names of all files.
//
// # Other ways to copy
//
// [Robocopy] and [WebDeploy] run Microsoft's tools instead of the copying built in; all else stays as it is, the comparing too. Both can be
// used alone. The tools are started without a shell, and end with the context or with this process.
//
// # Traps
//
// [Check] looks through a release for what would keep it from going live without notice, above all app_offline.htm and a web.config that IIS
// cannot read. [ParseWebConfig] tells what a web.config says of the things that matter in a switch.
package folder
