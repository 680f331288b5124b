package credsecret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

const (
	// MaxTemplate is the longest template, in bytes. It also bounds how deep one can nest.
	MaxTemplate = 16 << 10
	// MaxTemplateOutput is the most that one template may render to, in bytes. A function inside it takes no more either:
	// json doubles its quotes each time, so a chain of them would fill the memory.
	MaxTemplateOutput = 64 << 10
)

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
	for _, key := range slices.Sorted(maps.Keys(l.Templates)) {
		if !isDataKey(key) {
			return fmt.Errorf("template %q: a key holds 1 to 253 letters, digits, '-', '_' and '.', and does not begin with '..'", key)
		}
		if reserved(key) {
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

// isDataKey reports whether the API server takes the key in a Secret.
func isDataKey(key string) bool {
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}
	return key != "" && len(key) <= 253 && key != "." && !strings.HasPrefix(key, "..") && !strings.ContainsFunc(key, strange)
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
	errTooLong     = fmt.Errorf("it is longer than %d bytes", MaxTemplate)
	errSyntax      = errors.New("it is not a Go template, or uses a function that does not exist")
	errNotAllowed  = errors.New("only fields, if, and, or, not, eq, ne, json and base64 may be used")
	errTooLarge    = fmt.Errorf("it renders to more than %d bytes", MaxTemplateOutput)
	errNotRendered = errors.New("it does not render; is a field misspelt?")
)

func renderTemplate(text string, fields Fields) (string, error) {
	if len(text) > MaxTemplate {
		return "", errTooLong
	}
	parsed, err := template.New("").Funcs(template.FuncMap{"json": quoteJSON, "base64": encodeBase64}).Parse(text)
	if err != nil {
		return "", errSyntax // the parser's own words may quote the template
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

func quoteJSON(s string) (string, error) {
	if len(s) > MaxTemplateOutput {
		return "", errTooLarge
	}
	quoted, err := json.Marshal(s)
	return string(quoted), err
}

func encodeBase64(s string) (string, error) {
	if len(s) > MaxTemplateOutput {
		return "", errTooLarge
	}
	return base64.StdEncoding.EncodeToString([]byte(s)), nil
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
