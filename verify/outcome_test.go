package verify

import (
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification/hashtree"
)

// A rejection that mainnet certified.
func TestOutcomeMainnet(t *testing.T) {
	a := authorityOf(t, MainnetRootKey())
	canister := parsed(t, "ivg37-qiaaa-aaaab-aaaga-cai")
	id := [32]byte(unhex(t, "edad510eaaa08ed2acd4781324e6446269da6753ec17760f206bbe81c465ff52"))
	o, err := a.Outcome(vector(t, "mainnet_certificate"), canister, id, mainnetTime)
	if err != nil {
		t.Fatal(err)
	}
	if o.Status != CallRejected || !o.Status.Final() || o.RejectCode != 3 || o.ErrorCode != "" || o.Reply != nil ||
		o.RejectMessage != "Canister ivg37-qiaaa-aaaab-aaaga-cai has no update method 'register'" {
		t.Errorf("got %+v", o)
	}
	// Behind the request is nothing, so the certificate proves that a later id is unknown. Before it something is pruned.
	id[31]++
	if o, err := a.Outcome(vector(t, "mainnet_certificate"), canister, id, mainnetTime); err != nil || o.Status != CallUnknown {
		t.Errorf("another request: %+v, %v", o, err)
	}
	id[31] -= 2
	_, err = a.Outcome(vector(t, "mainnet_certificate"), canister, id, mainnetTime)
	wantCause(t, err, CauseRequest)
	_, err = a.Outcome(vector(t, "mainnet_certificate"), canister, id, mainnetTime.Add(time.Hour))
	wantCause(t, err, CauseCertificateOld)
}

func TestOutcome(t *testing.T) {
	n := newTestNet(t)
	canister := parsed(t, vectorCanister)
	id := [32]byte{1, 2, 3}
	status := func(nodes ...hashtree.Node) hashtree.Node { return labeled(string(id[:]), testLabels(nodes...)) }
	for _, tt := range []struct {
		name string
		tree hashtree.Node // below request_status
		want Outcome
		err  Cause
	}{
		{"replied", status(labeled("reply", leaf("DIDL")), labeled("status", leaf("replied"))), Outcome{Status: CallReplied, Reply: []byte("DIDL")}, ""},
		{"empty reply", status(labeled("reply", leaf("")), labeled("status", leaf("replied"))), Outcome{Status: CallReplied, Reply: []byte{}}, ""},
		{
			"rejected", status(labeled("error_code", leaf("IC0503")), labeled("reject_code", leaf("\x85\x01")), labeled("reject_message", leaf("no")), labeled("status", leaf("rejected"))),
			Outcome{Status: CallRejected, RejectCode: 133, RejectMessage: "no", ErrorCode: "IC0503"}, "",
		},
		{"rejected, nothing said", status(labeled("reject_code", leaf("\x05")), labeled("status", leaf("rejected"))), Outcome{Status: CallRejected, RejectCode: 5}, ""},
		{"received", status(labeled("status", leaf("received"))), Outcome{Status: CallReceived}, ""},
		{"processing", status(labeled("status", leaf("processing"))), Outcome{Status: CallProcessing}, ""},
		{"done", status(labeled("status", leaf("done"))), Outcome{Status: CallDone}, ""},
		{"unknown", status(labeled("status", leaf("unknown"))), Outcome{Status: CallUnknown}, ""},
		{"proven absent", labeled("a", leaf("x")), Outcome{Status: CallUnknown}, ""},
		{"pruned", hashtree.Pruned{}, Outcome{}, CauseRequest},
		{"another request", testLabels(hashtree.Pruned{}, labeled("z", leaf("x"))), Outcome{}, CauseRequest},
		{"a leaf in its place", labeled(string(id[:]), leaf("replied")), Outcome{}, CauseRequest},
		{"status pruned", labeled(string(id[:]), hashtree.Pruned{}), Outcome{}, CauseRequest},
		{"status of another shape", status(labeled("status", labeled("replied", leaf("")))), Outcome{}, CauseRequest},
		{"status of another name", status(labeled("status", leaf("Replied"))), Outcome{}, CauseMalformed},
		{"replied, reply pruned", status(hashtree.Pruned{}, labeled("status", leaf("replied"))), Outcome{}, CauseMalformed},
		{"rejected, no code", status(labeled("status", leaf("rejected"))), Outcome{}, CauseMalformed},
		{"rejected, empty code", status(labeled("reject_code", leaf("")), labeled("status", leaf("rejected"))), Outcome{}, CauseMalformed},
		{"rejected, code of odd width", status(labeled("reject_code", leaf("\x00\x00\x05")), labeled("status", leaf("rejected"))), Outcome{}, CauseMalformed},
		{"rejected, code over 64 bits", status(labeled("reject_code", leaf("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")), labeled("status", leaf("rejected"))), Outcome{}, CauseMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := testLabels(labeled("request_status", tt.tree), n.timeNode(n.now))
			cert := n.sign(n.subnet, tree, n.delegation(n.shardedTree(n.canisterRangeOf())))
			o, err := n.authority().Outcome(cert, canister, id, n.now)
			if tt.err != "" {
				wantCause(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !o.Time.Equal(n.now) || o.Status != tt.want.Status || string(o.Reply) != string(tt.want.Reply) || (o.Reply == nil) != (tt.want.Reply == nil) ||
				o.RejectCode != tt.want.RejectCode || o.RejectMessage != tt.want.RejectMessage || o.ErrorCode != tt.want.ErrorCode {
				t.Errorf("got %+v, want %+v", o, tt.want)
			}
		})
	}
}
