package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func principalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "principal [--config <path>] [--adapter <name>] [--identity <name> | --file <path>] [--create]",
		Short: "Prints the gateway principal",
		Long: `
Prints the principal of each gateway identity that a configuration uses, one a
line. It starts nothing and needs no running server.

Without --config the Caddyfile of the present directory is used, and without
that Caddy's default storage with the identity "default". --identity asks for
another key in storage, --file for a key file.

An identity in storage is created when Caddy first starts with it. --create
creates it now, so that its principal is known before.

Exit code 1: an identity does not exist or cannot be read.
`,
		Example: `  caddy icws principal
  caddy icws principal --config /etc/caddy/Caddyfile --create
  caddy icws principal --file ./key_pair`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringP("config", "c", "", "Configuration file")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply")
	cmd.Flags().String("identity", "", "Name of an identity in storage")
	cmd.Flags().String("file", "", "Path of an identity file")
	cmd.Flags().Bool("create", false, "Create identities that do not exist")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		config, _, _, err := caddycmd.LoadConfig(fl.String("config"), fl.String("adapter"))
		if err != nil {
			return exitFailed, err
		}
		var asked *Identity
		if name, file := fl.String("identity"), fl.String("file"); name != "" || file != "" {
			asked = &Identity{Name: name, File: file}
		}
		if err := printPrincipals(cmd.Context(), cmd.OutOrStdout(), config, asked, fl.Bool("create")); err != nil {
			return exitFailed, err
		}
		return 0, nil
	})
	return cmd
}

// printPrincipals writes the principals of the identities of a JSON configuration, or of the one asked for.
func printPrincipals(ctx context.Context, out io.Writer, config []byte, asked *Identity, create bool) error {
	// Only the storage of the configuration is loaded: other modules may have side effects.
	var parts struct {
		Storage json.RawMessage `json:"storage,omitempty"`
		Apps    any             `json:"apps,omitempty"`
	}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &parts); err != nil {
			return fmt.Errorf("reading the configuration: %w", err)
		}
	}
	caddyCtx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: parts.Storage})
	if err != nil {
		return fmt.Errorf("loading the storage: %w", err)
	}

	identities := []*Identity{asked}
	if asked == nil {
		if identities, err = configuredIdentities(parts.Apps); err != nil {
			return err
		}
		if len(identities) == 0 && len(config) > 0 {
			return errors.New("the configuration has no icws handler")
		}
		if len(identities) == 0 {
			identities = []*Identity{nil}
		}
	}
	printed := make(map[string]bool)
	for _, id := range identities {
		key, err := readIdentity(ctx, caddyCtx.Storage(), id, create)
		if err != nil {
			return err
		}
		if text := key.Sender().Encode(); !printed[text] {
			printed[text] = true
			fmt.Fprintln(out, text)
		}
	}
	return nil
}

// readIdentity loads an identity, and creates it in storage only if told so.
func readIdentity(ctx context.Context, storage certmagic.Storage, id *Identity, create bool) (*identity.Ed25519Identity, error) {
	source, err := resolveIdentity(id, zap.NewNop())
	if err != nil {
		return nil, err
	}
	if source.file != nil || create {
		return source.load(ctx, storage)
	}
	missing := fmt.Errorf("identity %s does not exist yet: start Caddy once as the user it runs as, or add --create", source.name)
	if !hasInstanceID() {
		return nil, missing
	}
	instance, err := instanceID(ctx)
	if err != nil {
		return nil, err
	}
	key, err := loadIdentity(ctx, storage, identityKey(instance, source.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	return key, err
}

// configuredIdentities collects the identity of every icws handler in a configuration, placeholders resolved.
func configuredIdentities(apps any) ([]*Identity, error) {
	repl := caddy.NewReplacer()
	var found []*Identity
	var walk func(any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case []any:
			for _, child := range v {
				if err := walk(child); err != nil {
					return err
				}
			}
		case map[string]any:
			if v["handler"] == "icws" {
				id, err := handlerIdentity(repl, v)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(found, func(o *Identity) bool { return *o == *id }) {
					found = append(found, id)
				}
				return nil
			}
			for _, child := range v {
				if err := walk(child); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return found, walk(apps)
}

func handlerIdentity(repl *caddy.Replacer, handler map[string]any) (*Identity, error) {
	id := &Identity{Name: DefaultIdentity}
	if raw, ok := handler["identity"]; ok {
		text, err := json.Marshal(raw)
		if err != nil {
			return nil, err
		}
		id = new(Identity)
		if err := json.Unmarshal(text, id); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
	}
	var err error
	if id.Name, err = resolve(repl, "identity", id.Name); err != nil {
		return nil, err
	}
	if id.File, err = resolve(repl, "identity file", id.File); err != nil {
		return nil, err
	}
	return id, nil
}
