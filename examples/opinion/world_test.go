//go:build e2e

package opinion

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"time"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"github.com/icws-gateway/caddy-icws/verify"
)

// blsKey is a BLS key that signs state roots.
type blsKey struct {
	secret *big.Int
	der    []byte
}

var blsPrefix, _ = hex.DecodeString("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")

func newBLSKey(seed string) *blsKey {
	wide := sha512.Sum512([]byte(seed))
	k := &blsKey{secret: new(big.Int).Mod(new(big.Int).SetBytes(wide[:]), fr.Modulus())}
	_, _, _, g2 := bls12381.Generators()
	var public bls12381.G2Affine
	raw := public.ScalarMultiplication(&g2, k.secret).Bytes()
	k.der = append(append([]byte(nil), blsPrefix...), raw[:]...)
	return k
}

// sign signs the root of a tree.
func (k *blsKey) sign(root [32]byte) []byte {
	h, err := bls12381.HashToG1(append([]byte("\x0dic-state-root"), root[:]...), []byte("BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"))
	if err != nil {
		panic(err) // the domain is constant
	}
	var sig bls12381.G1Affine
	raw := sig.ScalarMultiplication(&h, k.secret).Bytes()
	return raw[:]
}

// world is a network whose parts are made one by one, right or wrong.
type world struct {
	root, subnet, stranger *blsKey
	subnetID               verify.Principal
	canister, gateway      verify.Principal
	client                 verify.ClientKey
	seed                   []byte // of the client's Ed25519 key
	now                    time.Time
	handshake              []byte
	donor                  []byte // a certificate with ranges in the older layout
}

func newWorld() *world {
	w := &world{
		root: newBLSKey("root"), subnet: newBLSKey("subnet"), stranger: newBLSKey("stranger"),
		canister: principal(canisterBytes(0x8000000000100001)), now: time.Date(2026, 11, 26, 12, 0, 0, 987654321, time.UTC)}
	w.subnetID = verify.SelfAuthenticating(w.subnet.der)
	w.gateway = verify.SelfAuthenticating([]byte("a gateway's key"))
	digest := sha256.Sum256([]byte("a client's seed"))
	w.seed = digest[:]
	w.client = verify.ClientKey{
		Principal: verify.SelfAuthenticating(ed25519DER(ed25519.NewKeyFromSeed(w.seed))), Nonce: 0xfedcba9876543210,
	}
	w.handshake = verify.AppendHandshake(nil, w.gateway)
	p := newPage(w, rand.New(rand.NewPCG(1, 1)))
	p.layout = "flat"
	w.donor = p.build(1)[0].reply.Cert
	return w
}

func ed25519DER(key ed25519.PrivateKey) []byte {
	prefix, _ := hex.DecodeString("302a300506032b6570032100")
	return append(prefix, key.Public().(ed25519.PublicKey)...)
}

func principal(b []byte) verify.Principal {
	p, err := verify.PrincipalFromBytes(b)
	if err != nil {
		panic(err) // ids of tests are short enough
	}
	return p
}

func canisterBytes(n uint64) []byte { return append(binary.BigEndian.AppendUint64(nil, n), 1, 1) }

// ranges is the CBOR of canister ranges, given as pairs of numbers.
func ranges(bounds ...uint64) *item {
	list := arrayItem()
	for i := 0; i < len(bounds); i += 2 {
		list.kids = append(list.kids, arrayItem(bytesItem(canisterBytes(bounds[i])), bytesItem(canisterBytes(bounds[i+1]))))
	}
	return list
}

// timeLeaf is a certified time.
func timeLeaf(at time.Time) *node { return leaf(binary.AppendUvarint(nil, uint64(at.UnixNano()))) }

// certificate is a certificate of tree by key.
func certificate(key *blsKey, tree *node, delegation *item) *item {
	m := mapItem("tree", tree.item(), "signature", bytesItem(key.sign(tree.digest())))
	if delegation != nil {
		m.kids = append(m.kids, textItem("delegation"), delegation)
	}
	return m
}

// delegationOf wraps the certificate of a delegation.
func (w *world) delegationOf(raw []byte) *item {
	return mapItem("subnet_id", bytesItem(w.subnetID.Bytes()), "certificate", bytesItem(raw))
}

// delegationTree is what the root subnet certifies of the subnet.
func (w *world) delegationTree(r *rand.Rand, layout string, rangeBytes []byte, at *node) *node {
	id := string(w.subnetID.Bytes())
	first := canisterBytes(0x8000000000100000)
	var top []*node
	sharded := layout == "sharded" || layout == "both"
	if sharded {
		shards := []*node{
			pruned(labeled(string(canisterBytes(1)), leaf(ranges(1, 2).encode()))), labeled(string(first), leaf(rangeBytes)),
			pruned(labeled(string(canisterBytes(0x8100000000000000)), leaf(nil))),
		}
		top = append(top, labeled("canister_ranges", labeled(id, forest(r, shards...))))
	}
	info := []*node{labeled("public_key", leaf(w.subnet.der))}
	if layout == "flat" || layout == "both" {
		info = append([]*node{labeled("canister_ranges", leaf(rangeBytes))}, info...)
	}
	if r.IntN(2) == 0 {
		info = append(info, labeled("type", leaf([]byte("application"))))
	}
	subnets := []*node{labeled(id, forest(r, info...))}
	if r.IntN(2) == 0 {
		subnets = append([]*node{pruned(labeled("\x00", leaf(nil)))}, subnets...)
	}
	top = append(top, labeled("subnet", forest(r, subnets...)))
	if at != nil {
		top = append(top, labeled("time", at))
	}
	return forest(r, top...)
}

// stateTree is what the subnet certifies of the canister.
func (w *world) stateTree(r *rand.Rand, certified []byte, at *node) *node {
	id := string(w.canister.Bytes())
	canisters := []*node{labeled(id, forest(r, labeled("certified_data", leaf(certified)), pruned(labeled("module_hash", leaf(nil)))))}
	if r.IntN(2) == 0 {
		canisters = append([]*node{pruned(labeled("\x00", leaf(nil)))}, canisters...)
	}
	if r.IntN(2) == 0 {
		canisters = append(canisters, pruned(labeled("\xff", leaf(nil))))
	}
	top := []*node{labeled("canister", forest(r, canisters...))}
	if r.IntN(2) == 0 {
		top = append(top, pruned(labeled("request_status", leaf(nil))))
	}
	if at != nil {
		top = append(top, labeled("time", at))
	}
	return forest(r, top...)
}

// messageKey is the key of a message in the gateway's queue.
func (w *world) messageKey(nonce uint64) string { return fmt.Sprintf("%s_%020d", w.gateway, nonce) }

// payload is what a message says: an OpenMessage if it is one of the protocol, else record{text = "hi"}.
func (w *world) payload(service bool) []byte {
	if !service {
		return unhex("4449444c016c01ad99e7e704710100026869")
	}
	head := unhex("4449444c066c02fa80a2940568bbd1eacd0e786c01ebb49ce903006c01d888abb90a786b04cdc2dabb047fc9c68ea0057fd7a" +
		"ba29c0a7f999dafab0d7f6c01c49ff4e40f036b04fdbd95cc0101bfd397b409028ff2d1ef0a049eb7f0ad0b02010500011d")
	return binary.LittleEndian.AppendUint64(append(head, w.client.Principal.Bytes()...), w.client.Nonce)
}

// content is the first message to the client.
func (w *world) content(service bool) *item {
	return mapItem(
		"client_key", mapItem("client_principal", bytesItem(w.client.Principal.Bytes()), "client_nonce", uintItem(w.client.Nonce)),
		"sequence_num", uintItem(1), "timestamp", uintItem(uint64(w.now.UnixNano())),
		"is_service_message", boolItem(service), "content", bytesItem(w.payload(service)),
	)
}

// witness is the canister's tree with the given leaves, whose keys are those from nonce on.
func (w *world) witness(r *rand.Rand, nonce uint64, contents ...[]byte) *node {
	var messages []*node
	if r.IntN(2) == 0 {
		messages = append(messages, pruned(labeled("0", leaf(nil))))
	}
	for i, c := range contents {
		digest := sha256.Sum256(c)
		messages = append(messages, labeled(w.messageKey(nonce+uint64(i)), leaf(digest[:])))
	}
	if r.IntN(2) == 0 {
		messages = append(messages, pruned(labeled("~", leaf(nil))))
	}
	top := []*node{labeled("websocket", forest(r, messages...))}
	if r.IntN(4) == 0 {
		top = append([]*node{pruned(labeled("http_assets", leaf(nil)))}, top...)
	}
	return forest(r, top...)
}
