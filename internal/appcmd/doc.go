// Package appcmd speaks with appcmd.exe, the command line tool of IIS: it builds commands, runs them one at a time per machine, and reads
// what they print. It knows the grammar and the errors, and nothing of slots and deploys.
//
//	c := &appcmd.Client{}
//	sites, err := c.Sites(ctx)
//	_, err = c.Change(ctx, func(ctx context.Context, s *appcmd.Session) (appcmd.Command, bool, error) {
//		site, err := s.Site(ctx, "MySite") // read again before each try, so that nobody's change is overwritten
//		if err != nil || site.ServerAutoStart {
//			return appcmd.Command{}, false, err
//		}
//		return appcmd.SetSite("MySite").With("serverAutoStart", "true"), true, nil
//	})
//
// What appcmd is like, and what follows for those who use this package:
//
//   - Exit code 0 means that the change is saved, not that it is in force: the service WAS reads the file later, by itself. A line that
//     says "changed" is printed before the file is written and proves nothing.
//   - Texts are in the language of the machine; nothing here decides by them. What went wrong is told by the exit code and the HRESULT: see
//     Class. The exit code is the low half of the HRESULT if that is a Windows error (0x8007xxxx), else all of it; this rule is inferred, it
//     fits all published cases.
//   - Another program may write the configuration at the same time; there is no lock between programs. A commit then ends with a sharing
//     violation (Conflict), and the change has to be made again from what is there now: see Client.Change.
//   - A state that is shown as Unknown is not Stopped: the service is down or the caller lacks rights.
//   - What /config prints has passwords in clear text. Parsers of this package hide them (see Hidden), errors and commands never show them.
package appcmd
