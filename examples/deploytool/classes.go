package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/abswap/abswap"
)

// This file is about drains by class of work: the rules in the config, and how they are told while they run.

// classConfig is what a drain does with one class. What is nil has its default.
type classConfig struct {
	Policy classPolicy `yaml:"policy"`
	Still  *duration   `yaml:"still"`
	Window *duration   `yaml:"window"`
	Cap    *duration   `yaml:"cap"`
	Grace  *duration   `yaml:"grace"`
}

type classPolicy abswap.ClassPolicy

func (p *classPolicy) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || (*abswap.ClassPolicy)(p).UnmarshalText([]byte(n.Value)) != nil {
		return mistakeAt(n, "%q is not one of finish, finish-moving, close", n.Value)
	}
	return nil
}

// ruledClasses may have a rule. Sessions are none of them: this front door keeps none.
var ruledClasses = []abswap.Class{abswap.ClassRequest, abswap.ClassUpload, abswap.ClassDownload, abswap.ClassStream, abswap.ClassTunnel}

// rule is r for the library, with its defaults.
func (r classConfig) rule() abswap.ClassRule {
	out := abswap.ClassRule{Policy: abswap.ClassPolicy(r.Policy), Still: time.Minute, Window: 30 * time.Second, Grace: 30 * time.Second}
	if r.Still != nil {
		out.Still = time.Duration(*r.Still)
	}
	if r.Window != nil {
		out.Window = orNone(*r.Window)
	}
	if r.Cap != nil {
		out.Cap = time.Duration(*r.Cap)
	}
	if r.Grace != nil {
		out.Grace = orNone(*r.Grace)
	}
	return out
}

// rules are those of all classes; nil: none has one.
func (d drainConfig) rules() map[abswap.Class]abswap.ClassRule {
	if len(d.Classes) == 0 {
		return nil
	}
	out := map[abswap.Class]abswap.ClassRule{}
	for name, r := range d.Classes {
		out[abswap.Class(name)] = r.rule()
	}
	return out
}

// check finds rules that make no sense.
func (d drainConfig) check(m *mistakes) {
	for _, name := range slices.Sorted(maps.Keys(d.Classes)) {
		r := d.Classes[name]
		at := func(key string, format string, args ...any) {
			m.at([]any{"deploy", "drain", "classes", name, key}, format, args...)
		}
		policy := abswap.ClassPolicy(r.Policy)
		switch {
		case !slices.Contains(ruledClasses, abswap.Class(name)):
			m.at([]any{"deploy", "drain", "classes", name}, "%q is no class: they are %s", name, classNames())
			continue
		case r.Still != nil && policy != abswap.FinishMoving:
			at("still", "it is of finish-moving, and the policy is %s", policy)
		case r.Still != nil && *r.Still <= 0:
			at("still", "0s would end all: what moves is still between two bytes, too")
		}
		if r.Window != nil && policy != abswap.ClosePolitely {
			at("window", "it is of close, and the policy is %s", policy)
		}
		if r.Grace != nil && policy == abswap.Finish && r.rule().Cap == 0 {
			at("grace", "nothing of this class is asked to end: finish has no cap here")
		}
	}
}

func classNames() string {
	var all []string
	for _, c := range ruledClasses {
		all = append(all, string(c))
	}
	return strings.Join(all, ", ")
}

// drainBegin is when a drain began: at first, and by the run that is under way.
type drainBegin struct{ first, now time.Time }

// beganIn finds it in a report; the zero value if no drain has begun.
func beganIn(rep *abswap.Report) (b drainBegin) {
	for _, s := range rep.Steps {
		if s.Phase == abswap.PhaseDraining {
			if b.first.IsZero() {
				b.first = s.Started
			}
			b.now = s.Started
		}
	}
	return b
}

// until says how long work of a class is waited for.
func (d drainConfig) until(c abswap.Class, b drainBegin) string {
	if b.now.IsZero() {
		return "it ends"
	}
	var end time.Time // when a run is over, whatever is left
	if d.Timeout > 0 && abswap.AtDeadline(d.AtDeadline) != abswap.KeepWaiting {
		end = b.now.Add(time.Duration(d.Timeout))
	}
	file, ruled := d.Classes[string(c)]
	switch abswap.AtDeadline(d.AtDeadline) {
	case abswap.HandOver, abswap.CutOff:
		if ruled {
			end = time.Time{} // it goes by its rule alone
		} else if !end.IsZero() {
			end = end.Add(time.Duration(d.Grace))
		}
	}
	text := "it ends"
	if ruled {
		r := file.rule()
		var asked time.Time
		switch r.Policy {
		case abswap.FinishMoving:
			text = "it is still for " + shortly(r.Still)
		case abswap.ClosePolitely:
			asked = b.now.Add(max(r.Window, 0))
		}
		if limit := b.first.Add(r.Cap); r.Cap > 0 && (asked.IsZero() || limit.Before(asked)) {
			asked = limit
		}
		if cut := asked.Add(r.Grace); !asked.IsZero() && r.Grace >= 0 && (end.IsZero() || cut.Before(end)) {
			end = cut
		}
	}
	switch {
	case end.IsZero():
		return text
	case text == "it ends":
		return moment(end)
	}
	return text + ", " + moment(end) + " at most"
}

// moment writes a time, with its day if that is not today.
func moment(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) != time.Now().Format(time.DateOnly) {
		return t.Format(time.DateTime)
	}
	return t.Format(time.TimeOnly)
}

// shortly writes a duration without its zeros: 1m, not 1m0s.
func shortly(d time.Duration) string {
	text := d.String()
	if d >= time.Second {
		text = d.Round(time.Second).String()
	}
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// sortedClasses are those in by, in the order of the config.
func sortedClasses(by map[abswap.Class]abswap.ClassOutcome) []abswap.Class {
	at := func(c abswap.Class) int {
		if i := slices.Index(ruledClasses, c); i >= 0 {
			return i
		}
		return len(ruledClasses)
	}
	return slices.SortedFunc(maps.Keys(by), func(a, b abswap.Class) int { return at(a) - at(b) })
}

// leftText tells what is left of each class: how many, the age of the oldest, and until when it is waited for, as until says; nil: nobody knows.
func leftText(by map[abswap.Class]abswap.ClassOutcome, until func(abswap.Class) string) string {
	var all []string
	for _, c := range sortedClasses(by) {
		o := by[c]
		if o.Left == 0 {
			continue
		}
		text := fmt.Sprintf("%s up to %s old", count(o.Left, string(c)), shortly(o.Oldest.Round(time.Second)))
		if o.Left == 1 {
			text = fmt.Sprintf("1 %s %s old", c, shortly(o.Oldest.Round(time.Second)))
		}
		if until != nil {
			text += ", until " + until(c)
		}
		if o.Asked > 0 {
			text += fmt.Sprintf(", %d asked to end", o.Asked)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// outcomesText tells what became of each class.
func outcomesText(by map[abswap.Class]abswap.ClassOutcome) string {
	var all []string
	for _, c := range sortedClasses(by) {
		o := by[c]
		var parts []string
		for _, x := range []struct {
			n    int
			what string
		}{{o.Finished, "finished"}, {o.Closed, "closed"}, {o.Cut, "cut"}, {o.Left, "left"}} {
			if x.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
			}
		}
		if len(parts) > 0 {
			all = append(all, string(c)+": "+strings.Join(parts, ", "))
		}
	}
	return strings.Join(all, "; ")
}
