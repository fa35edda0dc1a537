package relay

// maxDeparting bounds the sessions that have no connection any more and whose messages are still under way. They hold no place: a
// person who reloads a page while the network hangs would soon be refused with no other session alive.
const maxDeparting = 8192

// depart gives back the place of s, whose connection is closed, and reports whether it was the first to do so. Where too many
// others are departing already, the one that has been for the longest is given up.
func (g *Gateway) depart(s *session) (first bool) {
	g.mu.Lock()
	if _, first = g.sessions[s]; !first {
		g.mu.Unlock()
		return false
	}
	delete(g.sessions, s)
	s.departure = g.departing.PushBack(s)
	var oldest *session
	if g.departing.Len() > g.maxDeparting {
		oldest = g.departing.Front().Value.(*session)
	}
	g.mu.Unlock()
	g.vacate(s.ip)
	if oldest != nil {
		oldest.giveUp()
		g.departed(oldest)
	}
	return true
}

// departed notes that nothing of s is under way any more, or that it was given up.
func (g *Gateway) departed(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.departure != nil {
		g.departing.Remove(s.departure)
		s.departure = nil
	}
}
