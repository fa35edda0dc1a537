package caddymodule

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// identityPrefix is where identities live in Caddy's storage: icws/identities/<instance>/<name>.pem.
	identityPrefix = "icws/identities"
	// maxIdentityFile bounds what is read of an identity file.
	maxIdentityFile = 16 << 10
)

// oidEd25519 is the algorithm of the only keys that this module makes and reads (RFC 8410).
var oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}

// identityName is what may become a part of a storage key. A leading dot would hide the file or climb out.
var identityName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

// identitySource is the resolved form of the `identity` knob: where the gateway's key comes from. Loading it is left to
// the start of the configuration, because it may create the key.
type identitySource struct {
	name string                    // in storage
	file *identity.Ed25519Identity // already read
}

// resolveIdentity checks the knob, placeholders already replaced. A file is read here, so that `caddy validate` finds its
// mistakes; a key in storage is neither read nor created.
func resolveIdentity(id *Identity, logger *zap.Logger) (*identitySource, error) {
	if id == nil || (id.Name == "" && id.File == "") {
		return &identitySource{name: DefaultIdentity}, nil
	}
	if id.Name != "" && id.File != "" {
		return nil, errors.New("identity has a name and a file: use one of them")
	}
	if id.File != "" {
		key, err := loadIdentityFile(id.File, logger)
		if err != nil {
			return nil, err
		}
		return &identitySource{file: key}, nil
	}
	if err := checkIdentityName(id.Name); err != nil {
		return nil, err
	}
	return &identitySource{name: id.Name}, nil
}

func checkIdentityName(name string) error {
	if !identityName.MatchString(name) {
		return fmt.Errorf("identity (%s) must be 1 to 64 letters, digits, dots, dashes or underscores, not starting with a dot; "+
			"for a file write `identity file <path>`", name)
	}
	return nil
}

// load returns the identity, creating it in storage if it is kept there and does not exist yet.
func (s *identitySource) load(ctx context.Context, storage certmagic.Storage) (*identity.Ed25519Identity, error) {
	if s.file != nil {
		return s.file, nil
	}
	instance, err := instanceID(ctx)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", s.name, err)
	}
	return loadOrCreateIdentity(ctx, storage, identityKey(instance, s.name))
}

// identityKey is the storage key of an identity. It holds the instance's id because canisters keep one queue per gateway
// principal: instances that share their storage must not share their identity by accident.
func identityKey(instance, name string) string {
	return path.Join(identityPrefix, instance, name+".pem")
}

// loadOrCreateIdentity reads an identity from storage. If there is none it creates one under the storage's lock, so
// that processes that start together end up with the same key.
func loadOrCreateIdentity(ctx context.Context, storage certmagic.Storage, key string) (*identity.Ed25519Identity, error) {
	id, err := loadIdentity(ctx, storage, key)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := storage.Lock(ctx, key); err != nil {
		return nil, fmt.Errorf("identity %s: locking it in storage: %w", key, err)
	}
	defer func() { _ = storage.Unlock(context.WithoutCancel(ctx), key) }()

	// Somebody else may have created it while this process waited for the lock.
	id, err = loadIdentity(ctx, storage, key)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity %s: creating it: %w", key, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("identity %s: encoding it: %w", key, err)
	}
	if err := storage.Store(ctx, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})); err != nil {
		return nil, fmt.Errorf("identity %s: storing it: %w", key, err)
	}
	// What counts is what the next start will read, also from a storage that lost or changed what it was given.
	return loadIdentity(ctx, storage, key)
}

// loadIdentity reads an identity from storage. The error wraps fs.ErrNotExist if there is none.
func loadIdentity(ctx context.Context, storage certmagic.Storage, key string) (*identity.Ed25519Identity, error) {
	raw, err := storage.Load(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("identity %s: loading it from storage: %w", key, err)
	}
	id, err := parseIdentityKey(raw)
	if err != nil {
		return nil, fmt.Errorf("identity %s in storage: %w; restore it from a backup, or delete it to get a new principal", key, err)
	}
	return id, nil
}

// loadIdentityFile reads `identity file <path>`. A key that every user of the machine can read is nobody's identity any
// more, so such a file is refused. In a container the secrets that it was given are readable by everybody in it, who is
// mostly nobody else: that is a warning.
func loadIdentityFile(path string, logger *zap.Logger) (*identity.Ed25519Identity, error) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && readableByOthers(info) {
		mode := info.Mode().Perm()
		if !secretMount(path) {
			logger.Warn("identity file can be read by every user of this machine", zap.String("file", path), zap.Stringer("mode", mode))
			return nil, fmt.Errorf("identity file %s can be read by every user of this machine (mode %s): chmod 600 it, "+
				"or mount the secret with mode 0400", path, mode)
		}
		logger.Warn("identity file is a secret that every user of this container can read: mount it with mode 0400",
			zap.String("file", path), zap.Stringer("mode", mode))
	}
	raw, err := readBounded(path, maxIdentityFile)
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	id, err := parseIdentityKey(raw)
	if err != nil {
		return nil, fmt.Errorf("identity file %s: %w", path, err)
	}
	return id, nil
}

// parseIdentityKey reads a PKCS#8 private key, PEM or raw DER. The raw form is what the Rust gateway writes (its version 2,
// RFC 5958, carries the public key behind the private one).
func parseIdentityKey(raw []byte) (*identity.Ed25519Identity, error) {
	der := raw
	if block, rest := pem.Decode(raw); block != nil {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("the key is encrypted, and nobody can type a passphrase here: decrypt it with `openssl pkey -in <file>` and chmod 600 the result")
		case block.Type != "PRIVATE KEY":
			return nil, fmt.Errorf("PEM block %q is not a PKCS#8 private key (\"PRIVATE KEY\"): convert it with `openssl pkcs8 -topk8 -nocrypt`", block.Type)
		case len(bytes.TrimSpace(rest)) != 0:
			return nil, errors.New("more than one PEM block: keep the private key only")
		}
		der = block.Bytes
	}
	var outer struct { // as far as it is the same for every algorithm and version
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, errors.New("not a PKCS#8 private key, neither as PEM nor as raw DER")
	}
	if !outer.Algorithm.Algorithm.Equal(oidEd25519) {
		return nil, fmt.Errorf("key of the algorithm %s: the gateway's identity must be an Ed25519 key (%s), make one with `openssl genpkey -algorithm ed25519`",
			outer.Algorithm.Algorithm, oidEd25519)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the Ed25519 key is damaged")
	}
	public := private.Public().(ed25519.PublicKey)
	if stated, ok := statedPublicKey(der); ok && !bytes.Equal(stated, public) {
		return nil, errors.New("the public key in the file does not belong to the private one: the file is damaged")
	}
	return identity.NewEd25519Identity(public, private)
}

// statedPublicKey returns the public key that a version 2 PKCS#8 structure carries (RFC 5958, OneAsymmetricKey).
func statedPublicKey(der []byte) ([]byte, bool) {
	var v2 struct {
		Version    int
		Algorithm  asn1.RawValue
		PrivateKey []byte
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
		PublicKey  asn1.RawValue `asn1:"optional,tag:1"`
	}
	if _, err := asn1.Unmarshal(der, &v2); err != nil || len(v2.PublicKey.Bytes) < 1 {
		return nil, false
	}
	bits := v2.PublicKey.Bytes
	if v2.PublicKey.IsCompound {
		// ring tags the BIT STRING explicitly, RFC 8410 implicitly.
		var inner asn1.BitString
		if _, err := asn1.Unmarshal(bits, &inner); err != nil {
			return nil, false
		}
		return inner.Bytes, true
	}
	return bits[1:], true // behind the count of unused bits
}
