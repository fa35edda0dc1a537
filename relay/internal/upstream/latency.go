package upstream

import "time"

// recentAnswers is how many answers the estimate of what is usual is made from, and fewAnswers how many there must be.
const (
	recentAnswers = 32
	fewAnswers    = 8
)

const (
	// minPatience bounds Host.patience from below.
	minPatience = 2 * time.Second
	// noCallsAge is how long a host on which a call hung gets none, if another answers them.
	noCallsAge = 2 * time.Minute
)

// recent is how long a host took for its last answers of one endpoint. Fixed size; guarded by the host's lock.
type recent struct {
	took  [recentAnswers]time.Duration
	count int           // of all there were
	p95   time.Duration // 95 of 100 took at most that long; 0 = not known yet
}

// add takes one more answer.
func (r *recent) add(d time.Duration) {
	r.took[r.count%recentAnswers] = d
	r.count++
	if r.count < fewAnswers {
		return
	}
	var most, second time.Duration // the second of 32 is the 95th percentile, or nearly
	for _, d := range r.took[:min(r.count, recentAnswers)] {
		if d > most {
			most, second = d, most
		} else if d > second {
			second = d
		}
	}
	r.p95 = second
}

// usual returns how long h takes at most for an answer of e as a rule, 0 if that is not known yet.
func (h *Host) usual(e Endpoint) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.recent[e]; r != nil {
		return r.p95
	}
	return 0
}

// measure takes d into the average that hosts are chosen by; the weight is one in share. The caller holds mu.
func (h *Host) measure(d, share time.Duration, now time.Time) {
	if h.latency == 0 || now.Sub(h.measured) >= h.measureAge() {
		h.latency = d
	} else {
		h.latency += (d - h.latency) / share
	}
	h.measured = now
}

// silentFor reports whether h has answered nothing for d, though it was asked.
func (h *Host) silentFor(d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missed.After(h.heard) && time.Since(h.heard) >= d
}

// hungOnCall notes that a call to h hung.
func (h *Host) hungOnCall() {
	h.mu.Lock()
	h.noCalls = time.Now()
	h.mu.Unlock()
}

// answersCalls reports whether calls to h are answered, as far as is known. It may answer all else and not them.
func (h *Host) answersCalls() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.noCalls.IsZero() || time.Since(h.noCalls) >= noCallsAge
}

// patience is how long h has for an answer of e while there is another host to ask after it.
func (h *Host) patience(e Endpoint) time.Duration {
	usual := h.usual(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	p := max(minPatience, 4*max(usual, h.latency))
	if e == EndpointCall {
		p += callHold
	}
	return p
}
