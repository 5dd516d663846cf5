// SPDX-License-Identifier: Apache-2.0

package mutant

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
)

// choice is the variable with the number of the mutant that runs.
const choice = "mutant_choice"

// source is a file that gets functions with mutants in them.
type source struct {
	text   string
	file   *ast.File
	set    *token.FileSet
	edits  []edit
	named  map[*ast.FuncDecl]string // the call of a mutant, without the function's name and with %s for it
	copies strings.Builder
}

// edit replaces a piece of the text.
type edit struct {
	from, to int
	text     string
}

func parse(file string) (*source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &source{text: string(text), set: token.NewFileSet(), named: make(map[*ast.FuncDecl]string)}
	s.file, err = parser.ParseFile(s.set, file, text, parser.SkipObjectResolution)
	return s, err
}

// add adds a mutant.
func (s *source) add(number int, m Bug) error {
	if n := strings.Count(s.text, m.Line); n != 1 {
		return fmt.Errorf("%s has %d times %q", m.File, n, m.Line)
	}
	at := strings.Index(s.text, m.Line)
	f := s.function(at, at+len(m.Line))
	if f == nil {
		return fmt.Errorf("%q is not within a function", m.Line)
	}
	call, err := s.name(f)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_mutant%d", f.Name.Name, number)
	from, to := s.offset(f.Pos()), s.offset(f.End())
	fmt.Fprintf(&s.copies, "\n%s%s%s%s%s\n",
		s.text[from:s.offset(f.Name.Pos())], name, s.text[s.offset(f.Name.End()):at], m.Text, s.text[at+len(m.Line):to])
	call = fmt.Sprintf(call, name)
	if f.Type.Results != nil {
		call = "return " + call
	} else {
		call += "; return"
	}
	body := s.offset(f.Body.Lbrace) + 1
	s.edits = append(s.edits, edit{body, body, fmt.Sprintf(" if %s == %d { %s };", choice, number, call)})
	return nil
}

// function is the one that a piece of the text is within the body of.
func (s *source) function(from, to int) *ast.FuncDecl {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && s.offset(f.Body.Lbrace) < from && to <= s.offset(f.End()) {
			return f
		}
	}
	return nil
}

// name gives the function's receiver and parameters names if they have none, and gives the call with them.
func (s *source) name(f *ast.FuncDecl) (call string, err error) {
	if call, ok := s.named[f]; ok {
		return call, nil
	}
	if f.Recv == nil && f.Name.Name == "init" {
		return "", errors.New("init cannot be called by another function")
	}
	call = "%s("
	if f.Recv != nil {
		call = s.names(f.Recv)[0] + "." + call
	}
	arguments := s.names(f.Type.Params)
	if list := f.Type.Params.List; len(list) > 0 {
		if _, variadic := list[len(list)-1].Type.(*ast.Ellipsis); variadic {
			arguments[len(arguments)-1] += "..."
		}
	}
	call += strings.Join(arguments, ", ") + ")"
	s.named[f] = call
	return call, nil
}

// names are the names in a list of parameters; those that have none get one.
func (s *source) names(list *ast.FieldList) (names []string) {
	for _, field := range list.List {
		if len(field.Names) == 0 {
			name := fmt.Sprintf("mutant_argument%d", s.offset(field.Pos()))
			s.edits = append(s.edits, edit{s.offset(field.Pos()), s.offset(field.Pos()), name + " "})
			names = append(names, name)
		}
		for _, ident := range field.Names {
			name := ident.Name
			if name == "_" {
				name = fmt.Sprintf("mutant_argument%d", s.offset(ident.Pos()))
				s.edits = append(s.edits, edit{s.offset(ident.Pos()), s.offset(ident.End()), name})
			}
			names = append(names, name)
		}
	}
	return names
}

func (s *source) offset(p token.Pos) int { return s.set.Position(p).Offset }

// String is the file with all mutants.
func (s *source) String() string {
	edits := slices.Clone(s.edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(s.text[at:e.from])
		b.WriteString(e.text)
		at = e.to
	}
	b.WriteString(s.text[at:])
	b.WriteString(s.copies.String())
	return b.String()
}
