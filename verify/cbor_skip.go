package verify

// skip reads one value of any type and drops it. Nesting is bounded by maxCBORDepth, the number of values by limit.
func (c *cborReader) skip() {
	switch c.peek() {
	case cborArray, cborMap, cborTag:
		c.skipNested()
	default: // most values have nothing inside, and need no stack
		if c.count(); c.err == nil {
			if major, arg := c.head(); major == cborBytes || major == cborText {
				c.take(arg)
			}
		}
	}
}

// count counts a value that is skipped or passed on whole.
func (c *cborReader) count() {
	limit := c.limit
	if limit == 0 {
		limit = maxCBORValues
	}
	if c.skipped++; c.skipped > limit {
		c.fail(errCBORValues)
	}
}

// skipNested is skip for a value that may have others inside.
func (c *cborReader) skipNested() {
	// Values still to come, per open level. In a map of indefinite length the first bit is set, and the last one while a
	// value is due.
	const open = 1 << 63
	var left [maxCBORDepth + 1]uint64
	left[0] = 1
	for depth := 0; ; {
		switch {
		case left[depth] == 0:
			if depth == 0 {
				return
			}
			depth--
			continue
		case left[depth] == open && len(c.buf) > 0 && c.buf[0] == cborBreak:
			c.buf = c.buf[1:]
			depth--
			continue
		case left[depth]&open != 0:
			left[depth] ^= 1
		default:
			left[depth]--
		}
		if c.count(); c.err != nil {
			return
		}
		inner := uint64(open)
		if !c.openMap() {
			major, arg := c.head()
			if c.err != nil {
				return
			}
			switch major {
			case cborBytes, cborText:
				c.take(arg)
				continue
			case cborArray:
				inner = arg
			case cborMap:
				if arg > uint64(len(c.buf)) {
					c.fail(errCBORShort)
					return
				}
				inner = 2 * arg
			case cborTag:
				inner = 1
			default:
				continue
			}
			if inner > uint64(len(c.buf)) {
				c.fail(errCBORShort)
				return
			}
		}
		if depth == maxCBORDepth {
			c.fail(errCBORDepth)
			return
		}
		depth++
		left[depth] = inner
	}
}

// raw reads one value of any type and returns its exact bytes.
func (c *cborReader) raw() []byte {
	start := c.buf
	c.skip()
	if c.err != nil {
		return nil
	}
	n := len(start) - len(c.buf)
	return start[:n:n]
}
