package localnet

import (
	"bytes"
	"testing"
)

// living is a canister that keeps no copies of itself, as compiled ones do.
type living struct{ data []byte }

func (c *living) Init(env *Env) error {
	c.data = []byte("old")
	env.SetCertifiedData(c.data)
	return nil
}

func (c *living) Update(*Env, string, []byte) ([]byte, error) { return nil, ErrNoMethod }

func (c *living) Query(env *Env, _ string, _ []byte) ([]byte, error) {
	if !bytes.Contains(env.DataCertificate(), c.data) {
		return []byte("the certificate is of other data"), nil
	}
	return c.data, nil
}

// A canister that changes after the round was chosen, in which it is asked, answers from what it has and with a certificate of that.
func TestQueryOfWhatChangedMeanwhile(t *testing.T) {
	c := new(living)
	n := newNetwork(t, Options{})
	id := n.Install(c)
	s := n.subnetOf(id)
	before := s.behind(0)
	s.mu.Lock()
	slot := s.slots[id]
	env := s.envLocked(slot, id, n.Now())
	c.data = []byte("new")
	env.SetCertifiedData(c.data)
	s.applyLocked(slot, env, true)
	s.mu.Unlock()
	r, reply, reject := s.answerQuery(before, flat, &request{canister: id})
	if reject != nil || string(reply) != "new" {
		t.Errorf("answers %q, %v", reply, reject)
	}
	if r == before {
		t.Error("the answer is said to be of the older round")
	}
}
