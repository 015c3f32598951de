package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// nameDirectives gives the added plugins whose names the request leaves open those
// of their sources: a package is seldom called other than its directive, but
// CoreDNS's own on is in the package onevent.
func (w *workspace) nameDirectives(ctx context.Context) error {
	with := slices.Clone(w.request.With)
	for i := range with {
		m := &with[i]
		if m.Name != "" || in(m.Package, selfModule) {
			continue
		}
		m.Name = base(m.Package)
		if w.request.Host != CoreDNS {
			continue
		}
		out, err := w.goCommand(ctx, "list", "-mod=mod", "-find", "-json=Dir,GoFiles,CgoFiles", m.Package)
		if err != nil {
			return w.explain("finding the plugins", err)
		}
		var l listed
		if err := json.Unmarshal(out, &l); err != nil {
			return fmt.Errorf("reading what go list says: %w", err)
		}
		switch found := registered(l.Dir, slices.Concat(l.GoFiles, l.CgoFiles)); len(found) {
		case 0:
			// A name that is made up as the program starts: verify looks at it.
		case 1:
			m.Name = found[0]
		default:
			return fmt.Errorf("plugin %s: it has the directives %s, expected the name of one, as in %s:%[1]s",
				m.Package, strings.Join(found, " and "), found[0])
		}
	}
	w.request.With = with
	return nil
}

// registrars are the functions that register a directive by their first argument.
var registrars = map[string]string{
	hostModules[CoreDNS] + "/plugin": "Register",
	"github.com/coredns/caddy":       "RegisterPlugin",
}

// registered are the directives that files of a package register by a constant
// name. What cannot be read is left to the compiler, which says what is wrong with it.
func registered(dir string, files []string) []string {
	fset := token.NewFileSet()
	constants := map[string]string{}
	var args []ast.Expr
	for _, name := range files {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		functions := map[string]string{} // by the name under which the file imports their package
		for _, spec := range f.Imports {
			pkg, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			if function := registrars[pkg]; function != "" {
				name := base(pkg)
				if spec.Name != nil {
					name = spec.Name.Name
				}
				functions[name] = function
			}
		}
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for i, name := range v.Names {
						if i < len(v.Values) {
							constants[name.Name] = literal(v.Values[i])
						}
					}
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
					if pkg, ok := sel.X.(*ast.Ident); ok && functions[pkg.Name] == sel.Sel.Name {
						args = append(args, call.Args[0])
					}
				}
			}
			return true
		})
	}
	var found []string
	for _, arg := range args {
		name := literal(arg)
		if id, ok := arg.(*ast.Ident); ok {
			name = constants[id.Name]
		}
		if pluginName.MatchString(name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

// literal is the text of a string literal; "" if it is none.
func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value) // the parser has checked it
	return text
}
