package iistest

import (
	"errors"
	"fmt"
	"strings"
)

// failure is an error as appcmd tells it.
type failure struct {
	hresult uint32 // 0: a message alone
	exit    uint32
	format  string // English; the translation is looked up by it
	args    []any
	usage   bool // printed bare, with lines that end in CR CR LF
}

func (f *failure) Error() string { return fmt.Sprintf(f.format, f.args...) }

// Exit codes that are Windows error codes.
const (
	exitAccessDenied     = 5
	exitInvalidData      = 13
	exitSharingViolation = 32
	exitNotSupported     = 50
	exitInvalidParameter = 87
	exitAlreadyExists    = 183
	exitCannotAccept     = 1061
	exitNotActive        = 1062
	exitNotFound         = 1168
	exitRPCFailed        = 1726
	exitInvalidObject    = 4312
	notImplemented       = 0x80004001
)

func message(exit uint32, format string, args ...any) *failure {
	return &failure{exit: exit, format: format, args: args}
}

// system is a failed execution with the system's own words.
func system(hresult uint32, text string) *failure {
	exit := hresult
	if hresult>>16 == 0x8007 { // the low half is a Windows error code
		exit = hresult & 0xffff
	}
	return &failure{hresult: hresult, exit: exit, format: "Command execution failed.\n" + text + "\n"}
}

func malformedIndexer() *failure {
	return message(exitInvalidData, "Malformed collection indexer; format is [@position,name='value',name2='value2',...].  "+
		"The @position specifier is optional, and be '@start', '@end', or '@N' where N is a numeric index into the collection.")
}

func unknownAttribute(name string) *failure {
	return message(exitInvalidParameter, "Unknown attribute \"%s\".  Replace with -? for help.", name)
}

func badValue() *failure { return system(0x80070057, "The parameter is incorrect.") }

func noElement() *failure {
	return message(exitInvalidObject, "Cannot find requested collection element.")
}

func duplicate(id string) *failure {
	return message(exitAlreadyExists, "Failed to add duplicate collection element \"%s\".", id)
}

func duplicateItem(name string, keys [][2]string) *failure {
	if len(keys) == 1 {
		return message(exitAlreadyExists, "New %s object missing required attributes. Cannot add duplicate collection entry of type '%s' with unique key attribute '%s' set to '%s'.",
			name, name, keys[0][0], keys[0][1])
	}
	var names, values []string
	for _, k := range keys {
		names, values = append(names, k[0]), append(values, k[1])
	}
	return message(exitAlreadyExists, "New %s object missing required attributes. Cannot add duplicate collection entry of type '%s' with combined key attributes '%s' respectively set to '%s'.",
		name, name, strings.Join(names, ", "), strings.Join(values, ", "))
}

func missingAttributes(name string) *failure {
	return message(exitInvalidParameter, "New %s object missing required attributes.", name)
}

func noObject(tag, id string) *failure {
	return message(exitNotFound, "Cannot find %s object with identifier \"%s\".", tag, id)
}

func mustSpecify(tag string) *failure {
	return message(exitInvalidParameter, "Must specify the %s object with identifier.", tag)
}

func serviceDown() *failure {
	return message(exitNotSupported, "The WAS service is not available - try starting the service first.")
}

func invalidObject() *failure {
	return system(0x800710d8, "The object identifier does not represent a valid object.")
}

func rpcFailed() *failure {
	return &failure{hresult: 0x800706be, exit: exitRPCFailed, format: "The remote procedure call failed."}
}

func redirectionDenied() *failure {
	return message(exitNotFound, "Configuration error\n\nFilename: redirection.config\nDescription: Cannot read configuration file due to insufficient permissions\n.")
}

func sharingViolation() *failure {
	return &failure{hresult: 0x80070020, exit: exitSharingViolation,
		format: "Failed to commit configuration changes.  \nThe process cannot access the file because it is being used by another process.\n"}
}

func unreadable(path, why string) *failure {
	return message(exitInvalidData, "Configuration error\n\nFilename: \\\\?\\%s\n\nLine Number: 0\n\nDescription: %s\n\n.", path, why)
}

// text puts words into the machine's language.
func (s *Server) text(format string, args ...any) string {
	if s.cfg.Language == Russian {
		format = russian(format)
	}
	return fmt.Sprintf(format, args...)
}

// line is how an error is printed as plain text, without its line end.
func (s *Server) line(f *failure) string {
	text := s.words(f)
	if f.hresult != 0 {
		return fmt.Sprintf("ERROR ( hresult:%08x, message:%s )", f.hresult, text)
	}
	return "ERROR ( message:" + text + " )"
}

func (s *Server) words(f *failure) string {
	lines := strings.SplitAfter(f.format, "\n") // each line of a system text is a text of its own
	if len(f.args) > 0 {
		return s.text(f.format, f.args...)
	}
	var b strings.Builder
	for _, l := range lines {
		bare := strings.TrimSuffix(l, "\n")
		b.WriteString(s.plain(bare) + l[len(bare):])
	}
	return b.String()
}

func (s *Server) plain(text string) string {
	if s.cfg.Language == Russian {
		return russian(text)
	}
	return text
}

// asFailure makes any error one that appcmd could tell.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return message(exitInvalidData, "%s", err.Error())
}

// russian translates. The messages of WAS and of the failed call are as seen on a real machine, those of Windows as Windows has them; the
// others are made up.
func russian(text string) string {
	switch text {
	case "The WAS service is not available - try starting the service first.":
		return "Служба WAS недоступна - попытайтесь сначала запустить службу."
	case "The remote procedure call failed.":
		return "Сбой при удаленном вызове процедуры."
	case "Access is denied.":
		return "Отказано в доступе."
	case "The process cannot access the file because it is being used by another process.":
		return "Процесс не может получить доступ к файлу, так как этот файл занят другим процессом."
	case "Cannot create a file when that file already exists.":
		return "Невозможно создать файл, так как он уже существует."
	case "The object identifier does not represent a valid object.":
		return "Идентификатор объекта не представляет допустимый объект."
	case "The parameter is incorrect.":
		return "Параметр задан неверно."
	case "The service has not been started.":
		return "Служба не запущена."
	case "An instance of the service is already running.":
		return "Одна копия службы уже запущена."
	case "The service cannot accept control messages at this time.":
		return "Служба в настоящее время не может принимать команды."
	case "Not implemented":
		return "Не реализовано"
	case "The data is invalid.":
		return "Недопустимые данные."
	case "Command execution failed.":
		return "Сбой выполнения команды."
	case "Failed to commit configuration changes.  ":
		return "Не удалось сохранить изменения конфигурации.  "
	case "Cannot find %s object with identifier \"%s\".":
		return "Не удается найти объект %s с идентификатором \"%s\"."
	case "Must specify the %s object with identifier.":
		return "Необходимо указать объект %s с идентификатором."
	case "Failed to add duplicate collection element \"%s\".":
		return "Не удалось добавить повторяющийся элемент коллекции \"%s\"."
	case "Cannot find requested collection element.":
		return "Не удается найти запрошенный элемент коллекции."
	case "%s object \"%s\" added":
		return "Объект %s \"%s\" добавлен"
	case "%s object \"%s\" changed":
		return "Объект %s \"%s\" изменен"
	case "%s object \"%s\" deleted":
		return "Объект %s \"%s\" удален"
	case "\"%s\" successfully started.":
		return "\"%s\" успешно запущен."
	case "\"%s\" successfully stopped":
		return "\"%s\" успешно остановлен"
	case "\"%s\" successfully recycled":
		return "\"%s\" успешно перезапущен"
	}
	return text
}

// CP866 writes text as a Russian console does; runes that the code page lacks become question marks.
func CP866(text string) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r >= 'А' && r <= 'п':
			out = append(out, byte(r-'А')+0x80)
		case r >= 'р' && r <= 'я':
			out = append(out, byte(r-'р')+0xe0)
		case r == 'Ё':
			out = append(out, 0xf0)
		case r == 'ё':
			out = append(out, 0xf1)
		default:
			out = append(out, '?')
		}
	}
	return out
}
