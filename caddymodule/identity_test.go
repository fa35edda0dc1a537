package caddymodule

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// rfc8410Key is the Ed25519 key of RFC 8410 section 10.3: first the version 1 structure, then the version 2 structure
// with attributes and the public key.
const (
	rfc8410V1     = "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842"
	rfc8410V2     = "3072020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842a01f301d060a2a864886f70d01090914310f0c0d437572646c6520436861697273812100" + rfc8410Public
	rfc8410Public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
	// ringV2 is the layout that ring 0.17 writes for the Rust gateway (its PKCS#8 v2 template): no attributes, the
	// public key as an explicitly tagged BIT STRING.
	ringV2 = "3053020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842a123032100" + rfc8410Public
)

// secp256k1Key is a PKCS#8 key of a curve that Go's parser does not know, and that other tools for the Internet Computer
// use for identities.
const secp256k1Key = "308184020100301006072a8648ce3d020106052b8104000a046d306b0201010420" +
	"d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842" + "a144034200" + "04" +
	"d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestParseIdentityKey reads the key of RFC 8410 in every form that operators have.
func TestParseIdentityKey(t *testing.T) {
	// The DER public key (RFC 8410 section 4) that the principal is the hash of.
	public := append(unhex(t, "302a300506032b6570032100"), unhex(t, rfc8410Public)...)
	armor := func(der string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: unhex(t, der)})
	}
	for name, raw := range map[string][]byte{
		"version 1 der": unhex(t, rfc8410V1),
		"version 1 pem": armor(rfc8410V1),
		"version 2 der": unhex(t, rfc8410V2),
		"version 2 pem": armor(rfc8410V2),
		"ring":          unhex(t, ringV2),
	} {
		t.Run(name, func(t *testing.T) {
			id, err := parseIdentityKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(id.PublicKey(), public) {
				t.Errorf("public key %x, want %x", id.PublicKey(), public)
			}
		})
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	damaged := unhex(t, ringV2)
	damaged[len(damaged)-1] ^= 1
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":          {nil, "not a PKCS#8 private key"},
		"text":           {[]byte("hello"), "not a PKCS#8 private key"},
		"sec1":           {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")}), "openssl pkcs8"},
		"two blocks":     {append(armor(rfc8410V1), armor(rfc8410V1)...), "more than one PEM block"},
		"another scheme": {ecDER, "must be an Ed25519 key"},
		"unknown curve":  {unhex(t, secp256k1Key), "must be an Ed25519 key"},
		"encrypted":      {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "the key is encrypted"},
		"old encrypted": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")}),
			"the key is encrypted"},
		"public key": {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "is not a PKCS#8 private key"},
		"short seed": {unhex(t, "302d020100300506032b65700421041fd4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f447558"), "damaged"},
		"damaged":    {damaged, "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseIdentityKey(test.raw); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			} else if strings.Contains(err.Error(), "d4ee72db") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

// TestIdentityFile checks what is done about files that others can read.
func TestIdentityFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key_pair")
	if err := os.WriteFile(file, unhex(t, ringV2), 0o600); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	if _, err := loadIdentityFile(file, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	if logs.Len() != 0 {
		t.Errorf("logged %v", logs.All())
	}
	if runtime.GOOS == "windows" {
		return
	}
	// A link is what it leads to, here a file that others can read, as TestMistakes has one; a directory is never a key, whatever its mode.
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if _, err := loadIdentityFile(link, zap.New(core)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("link to a readable file: error %v", err)
	}
	if err := os.Chmod(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := loadIdentityFile(filepath.Dir(link), zap.New(core)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: error %v", err)
	}
}

// memStorage is a certmagic storage of this test's own: what the module stores must work with any of them.
type memStorage struct {
	mu    sync.Mutex
	files map[string][]byte
	locks map[string]*sync.Mutex
	// stores counts calls of Store, held tells whether the lock of a key is held.
	stores int
	held   map[string]bool
	// fail makes every call return it.
	fail error
}

func newMemStorage() *memStorage {
	return &memStorage{files: map[string][]byte{}, locks: map[string]*sync.Mutex{}, held: map[string]bool{}}
}

func (s *memStorage) Lock(_ context.Context, key string) error {
	s.mu.Lock()
	if s.fail != nil {
		defer s.mu.Unlock()
		return s.fail
	}
	lock := s.locks[key]
	if lock == nil {
		lock = new(sync.Mutex)
		s.locks[key] = lock
	}
	s.mu.Unlock()
	lock.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = true
	return nil
}

func (s *memStorage) Unlock(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[key] = false
	s.locks[key].Unlock()
	return nil
}

func (s *memStorage) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if !s.held[key] && strings.HasPrefix(key, identityPrefix) {
		return errors.New("stored without the lock")
	}
	s.stores++
	s.files[key] = bytes.Clone(value)
	return nil
}

func (s *memStorage) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	value, ok := s.files[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(value), nil
}

func (s *memStorage) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, key)
	return nil
}

func (s *memStorage) Exists(_ context.Context, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[key]
	return ok
}

func (s *memStorage) List(_ context.Context, prefix string, _ bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.files {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (s *memStorage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.files[key]
	if !ok {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
}

// memStorageModule is the same as a Caddy module, so that a whole server can run on it.
type memStorageModule struct{}

var sharedMemStorage = newMemStorage()

func init() { caddy.RegisterModule(memStorageModule{}) }

func (memStorageModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.icws_test", New: func() caddy.Module { return new(memStorageModule) }}
}

func (memStorageModule) CertMagicStorage() (certmagic.Storage, error) { return sharedMemStorage, nil }

// TestIdentityInStorage creates identities in two kinds of storage, from many places at once.
func TestIdentityInStorage(t *testing.T) {
	t.Parallel()
	memory := newMemStorage()
	for name, storage := range map[string]certmagic.Storage{
		"file system": &certmagic.FileStorage{Path: t.TempDir()},
		"memory":      memory,
	} {
		t.Run(name, func(t *testing.T) {
			key := identityKey("0b1f6a1e-0000-4000-8000-000000000000", "default")
			var wg sync.WaitGroup
			ids := make([]string, 3) // who waits for a lock in the file system looks once a second
			for i := range ids {
				wg.Go(func() {
					id, err := loadOrCreateIdentity(t.Context(), storage, key)
					if err != nil {
						t.Error(err)
						return
					}
					ids[i] = id.Sender().Encode()
				})
			}
			wg.Wait()
			for _, id := range ids {
				if id == "" || id != ids[0] {
					t.Fatalf("principals differ: %v", ids)
				}
			}
			raw, err := storage.Load(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(raw)
			if block == nil {
				t.Fatalf("not PEM: %q", raw)
			}
			stored, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := stored.(ed25519.PrivateKey); !ok {
				t.Errorf("stored a %T", stored)
			}
			other, err := loadOrCreateIdentity(t.Context(), storage, identityKey("another-instance", "default"))
			if err != nil {
				t.Fatal(err)
			}
			if other.Sender().Encode() == ids[0] {
				t.Error("two instances share an identity")
			}
		})
	}
	if memory.stores != 2 {
		t.Errorf("%d stores, want one for each identity", memory.stores)
	}

	t.Run("file mode", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			return
		}
		dir := t.TempDir()
		if _, err := loadOrCreateIdentity(t.Context(), &certmagic.FileStorage{Path: dir}, identityKey("i", "n")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(identityKey("i", "n"))))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %s", info.Mode())
		}
	})
	t.Run("failing storage", func(t *testing.T) {
		broken := newMemStorage()
		broken.fail = errors.New("storage is down")
		if _, err := loadOrCreateIdentity(t.Context(), broken, "k"); err == nil || !strings.Contains(err.Error(), "storage is down") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		damaged := newMemStorage()
		damaged.files["k"] = []byte("not a key")
		if _, err := loadOrCreateIdentity(t.Context(), damaged, "k"); err == nil || !strings.Contains(err.Error(), "backup") || damaged.stores != 0 {
			t.Errorf("a damaged identity was replaced (%v): its principal would be lost", err)
		}
	})
}

// TestInstanceID makes sure that an id is used only when it is the one that later starts will read.
func TestInstanceID(t *testing.T) {
	fresh := func(t *testing.T) {
		t.Helper()
		t.Setenv("XDG_DATA_HOME", t.TempDir())
		if hasInstanceID() {
			t.Fatal("a new directory has an instance id")
		}
	}
	check := func(t *testing.T, got string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(instanceFile())
		if err != nil || string(kept) != got {
			t.Errorf("used %s, kept %q (%v)", got, kept, err)
		}
	}
	t.Run("against Caddy's own calls", func(t *testing.T) {
		fresh(t)
		synctest.Test(t, func(t *testing.T) {
			for range 8 {
				go func() { _, _ = caddy.InstanceID() }()
			}
			id, err := instanceID(t.Context())
			check(t, id, err)
		})
	})
	t.Run("overwritten later", func(t *testing.T) {
		fresh(t)
		const other = "7b0c5d60-58c8-4fe9-a29e-6a3b0c5e3c11"
		synctest.Test(t, func(t *testing.T) {
			// Each time in the last moment before it would have settled.
			for i, id := range []string{"0b1f6a1e-0000-4000-8000-000000000000", other} {
				time.AfterFunc(time.Duration(i+1)*(instanceSettle-instanceRetry)+instanceRetry/2, func() { _ = os.WriteFile(instanceFile(), []byte(id), 0o600) })
			}
			id, err := instanceID(t.Context())
			check(t, id, err)
			if id != other {
				t.Errorf("used %s", id)
			}
		})
	})
	t.Run("present", func(t *testing.T) {
		fresh(t)
		synctest.Test(t, func(t *testing.T) {
			first, err := instanceID(t.Context())
			check(t, first, err)
			began := time.Now()
			again, err := instanceID(t.Context())
			check(t, again, err)
			if again != first || time.Since(began) > 0 {
				t.Errorf("%s, then %s after %s", first, again, time.Since(began))
			}
		})
	})
	t.Run("damaged", func(t *testing.T) {
		fresh(t)
		if err := os.MkdirAll(filepath.Dir(instanceFile()), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(instanceFile(), []byte("not an id"), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			if id, err := instanceID(t.Context()); err == nil || !strings.Contains(err.Error(), "instance.uuid") {
				t.Errorf("%q, %v", id, err)
			}
		})
	})
}
