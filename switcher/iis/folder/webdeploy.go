package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/abswap/abswap/internal/multi"
)

// WebDeploy copies with Microsoft's Web Deploy:
//
//	msdeploy -verb:sync -source:contentPath="FROM" -dest:contentPath="TO" -retryAttempts:2
//
// It makes TO the same as FROM, so it deletes there what FROM does not have. With settings in Dest it copies to another machine; an
// Installer has no use for that, since it looks at the copy.
//
// msdeploy does not take its command line apart as other programs do: an argument that is quoted as a whole is refused ("All arguments must
// begin with "-""), so the quotes stand around the values alone. A value that holds both kinds of quotes, or ends in a backslash, cannot be
// passed for certain: ErrQuote.
type WebDeploy struct {
	Path    string        // of msdeploy.exe; "": the one in %ProgramFiles%\IIS\Microsoft Web Deploy V3
	Source  []Setting     // of the source's provider, after contentPath
	Dest    []Setting     // of the destination's: {"computerName", "https://web1:8172/msdeploy.axd", false}, {"password", "...", true}
	Args    []string      // further ones, passed as they are, with their own quotes: `-skip:Directory="App_Data"`
	Timeout time.Duration // 0: as long as the context
	Output  int           // how many bytes of the output's end an error carries; 0: 8 KiB
}

// Setting is one setting of a provider of Web Deploy. A secret one, and each whose name holds "password", is masked in errors and output. Other
// programs on this machine can read it while msdeploy runs: it takes secrets in no other way than in its arguments.
type Setting struct {
	Name, Value string
	Secret      bool
}

// Copy copies. The error is a *ToolError, or wraps ErrQuote.
func (w WebDeploy) Copy(ctx context.Context, from, to string) error {
	c, err := w.command(from, to)
	if err != nil {
		return err
	}
	exit, output, err := c.run(ctx)
	if err != nil {
		return err
	}
	if exit == 0 {
		return nil
	}
	e := c.fail(exit, output, nil)
	e.Codes = WebDeployCodes(output)
	return e
}

func (w WebDeploy) command(from, to string) (command, error) {
	path := w.Path
	if path == "" {
		files := os.Getenv("ProgramFiles")
		if files == "" {
			files = `C:\Program Files`
		}
		path = filepath.Join(files, "IIS", "Microsoft Web Deploy V3", "msdeploy.exe")
	}
	c := command{tool: "msdeploy", path: path, keep: w.Output, timeout: w.Timeout}
	var errs []error
	provider := func(arg, folder string, settings []Setting) {
		all := append([]Setting{{Name: "contentPath", Value: folder}}, settings...)
		parts := make([]string, 0, len(all))
		for _, s := range all {
			v, err := s.quoted()
			errs = append(errs, err)
			parts = append(parts, s.Name+"="+v)
			if s.secret() {
				c.secrets = append(c.secrets, s.Value)
			}
		}
		c.args = append(c.args, arg+":"+strings.Join(parts, ","))
	}
	c.args = append(c.args, "-verb:sync")
	provider("-source", from, w.Source)
	provider("-dest", to, w.Dest)
	c.args = append(c.args, "-retryAttempts:2")
	for n, a := range w.Args {
		if !strings.HasPrefix(a, "-") || strings.ContainsAny(a, "\r\n\x00") {
			errs = append(errs, fmt.Errorf("WebDeploy.Args[%d] begins with no dash or holds a line break: msdeploy refuses it: %w", n, ErrQuote))
		}
		c.secrets = append(c.secrets, secretsIn(a)...)
	}
	c.args = append(c.args, w.Args...)
	slices.SortFunc(c.secrets, func(a, b string) int { return len(b) - len(a) })
	c.line = `"` + path + `" ` + strings.Join(c.args, " ")
	if strings.Contains(path, `"`) {
		errs = append(errs, fmt.Errorf("WebDeploy.Path: %w", ErrQuote))
	}
	return c, multi.Join(errs...)
}

func (s Setting) secret() bool {
	return s.Secret || strings.Contains(strings.ToLower(s.Name), "password")
}

var settingName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)

// quoted returns the value in quotes. The error does not tell a secret.
func (s Setting) quoted() (string, error) {
	var why error
	quote := `"`
	switch {
	case !settingName.MatchString(s.Name):
		why = errors.New("its name is none")
	case strings.ContainsAny(s.Value, "\r\n\x00"):
		why = errors.New("its value holds a line break or a zero")
	case strings.HasSuffix(s.Value, `\`):
		why = errors.New("its value ends in a backslash")
	case strings.Contains(s.Value, `"`) && strings.Contains(s.Value, `'`):
		why = errors.New("its value holds both kinds of quotes")
	case strings.Contains(s.Value, `"`):
		quote = `'`
	}
	if why != nil {
		return "", fmt.Errorf("%w: setting %q: %w", ErrQuote, s.Name, why)
	}
	return quote + s.Value + quote, nil
}

var secretSetting = regexp.MustCompile(`(?i)password\s*[=:]\s*(?:"([^"]*)"|'([^']*)'|([^,\s]*))`)

// secretsIn finds the values of passwords in an argument that was written by hand.
func secretsIn(arg string) []string {
	var all []string
	for _, m := range secretSetting.FindAllStringSubmatch(arg, -1) {
		if s := m[1] + m[2] + m[3]; s != "" {
			all = append(all, s)
		}
	}
	return all
}

var errorCode = regexp.MustCompile(`(?i)\berror code:\s*([A-Z][A-Z0-9_]{2,63})\b`)

// WebDeployCodes finds the error codes in the output of msdeploy, each once, in their order: "ERROR_FILE_IN_USE".
func WebDeployCodes(output string) []string {
	var codes []string
	for _, m := range errorCode.FindAllStringSubmatch(output, -1) {
		if !slices.Contains(codes, m[1]) {
			codes = append(codes, m[1])
		}
	}
	return codes
}
