package credsecret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// MaxTemplateOutput is the most that one template may render to, in bytes.
const MaxTemplateOutput = 64 << 10

// Fields are what templates can use. All of them are strings.
type Fields struct {
	Username  string
	Password  string
	ClientID  string
	GroupID   string
	DeviceID  string
	Host      string
	Port      string
	URL       string
	WSSURL    string
	TCPURL    string
	ExpiresAt string
	RenewAt   string
}

// addTemplates renders the layout's templates into values. Its errors name the key and never a value.
func (l Layout) addTemplates(values map[string]string, fields Fields) error {
	keys := make([]string, 0, len(l.Templates))
	for key := range l.Templates {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if _, taken := values[key]; taken || reserved(key) {
			return fmt.Errorf("template %q: the key is the operator's; choose another", key)
		}
		text, err := renderTemplate(l.Templates[key], fields)
		if err != nil {
			return fmt.Errorf("template %q: %w", key, err)
		}
		values[key] = text
	}
	return nil
}

func reserved(key string) bool {
	return strings.HasPrefix(key, "MQTT_") || slices.Contains([]string{
		mqttcred.KeyUsername, mqttcred.KeyPassword, mqttcred.KeyClientID, mqttcred.KeyGroupID, mqttcred.KeyHost,
		mqttcred.KeyPort, mqttcred.KeyURL, mqttcred.KeyWSSURL, mqttcred.KeyTCPURL, mqttcred.KeyCA,
		mqttcred.KeyExpiresAt, mqttcred.KeyRenewAt, mqttcred.KeyPermissions, mqttcred.KeyTokens, mqttcred.KeyRetired,
	}, key)
}

// The problems of a template. They say nothing of the values it would render.
var (
	errSyntax      = errors.New("it is not a Go template")
	errNotAllowed  = errors.New("only fields, if, and, or, not, eq, ne, json and base64 may be used")
	errTooLarge    = fmt.Errorf("it renders to more than %d bytes", MaxTemplateOutput)
	errNotRendered = errors.New("it does not render; is a field misspelt?")
)

func renderTemplate(text string, fields Fields) (string, error) {
	parsed, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"json":   func(s string) (string, error) { quoted, err := json.Marshal(s); return string(quoted), err },
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	}).Parse(text)
	if err != nil {
		return "", errSyntax // the parser's own words may quote the template
	}
	if parsed.Tree == nil { // nothing but white space and comments
		return "", nil
	}
	if len(parsed.Templates()) > 1 || !allowed(parsed.Root) {
		return "", errNotAllowed
	}
	out := &limitedBuilder{}
	switch err := parsed.Execute(out, fields); {
	case errors.Is(err, errTooLarge):
		return "", errTooLarge
	case err != nil:
		return "", errNotRendered // the engine's own words may quote a value
	}
	return out.text.String(), nil
}

// allowed walks the parsed template: loops, includes and every function that is not listed are out, so a template can
// neither run long nor reach beyond its fields.
func allowed(node parse.Node) bool {
	switch n := node.(type) {
	case nil:
		return true
	case *parse.ListNode:
		return n == nil || !slices.ContainsFunc(n.Nodes, func(child parse.Node) bool { return !allowed(child) })
	case *parse.IfNode:
		return allowed(n.Pipe) && allowed(n.List) && allowed(n.ElseList)
	case *parse.ActionNode:
		return allowed(n.Pipe)
	case *parse.PipeNode:
		return len(n.Decl) == 0 && !slices.ContainsFunc(n.Cmds, func(c *parse.CommandNode) bool { return !allowed(c) })
	case *parse.CommandNode:
		return !slices.ContainsFunc(n.Args, func(arg parse.Node) bool { return !allowed(arg) })
	case *parse.IdentifierNode:
		return slices.Contains([]string{"and", "or", "not", "eq", "ne", "json", "base64"}, n.Ident)
	case *parse.TextNode, *parse.CommentNode, *parse.FieldNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
		return true
	default:
		return false
	}
}

type limitedBuilder struct{ text strings.Builder }

func (b *limitedBuilder) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > MaxTemplateOutput {
		return 0, errTooLarge
	}
	return b.text.Write(p)
}
