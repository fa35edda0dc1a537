package verify

import "slices"

// maxReplyMessages bounds the messages of one reply. A page of the canister kit has 50 by default, and even 200-byte
// messages, the smallest there are with their keys, reach the Internet Computer's reply limit of 3 MiB before this.
const maxReplyMessages = 16384

// minReplyMessage is the size of the smallest message a reply can hold: an empty key and content, the management
// canister as client and a nonce.
const minReplyMessage = 1 + 1 + 2 + 8

// Decode reads the answer of ws_get_messages into r, replacing what r held. Everything in r aliases arg, except Err,
// which is a copy. The memory of r.Messages is used again: decoding page after page into one Reply allocates nothing.
//
// Fields that it does not know are skipped. A missing is_end_of_queue, as canisters built before version 0.3.1 of the
// kit answer, and a null one count as true. Errors have CauseMalformed and leave r empty.
func (r *Reply) Decode(arg []byte) error {
	*r = Reply{Messages: r.Messages[:0]}
	c, err := openCandid(arg)
	if err != nil {
		return err
	}
	defer c.close()
	if err := r.decode(c); err != nil {
		*r = Reply{Messages: r.Messages[:0]}
		return err
	}
	return nil
}

func (r *Reply) decode(c *candidReader) error {
	f, err := c.variantArg()
	if err != nil {
		return err
	}
	switch f.id {
	case idOk:
		err = r.decodePage(c, f.ref)
	case idErr:
		r.Failed = true
		r.Err, err = c.textAs(f.ref)
	default:
		err = candidError("reply is neither Ok nor Err")
	}
	if err != nil {
		return err
	}
	return c.end(1)
}

// decodePage reads a record of the type CertifiedMessages.
func (r *Reply) decodePage(c *candidReader, ref int32) error {
	t := c.typeOf(ref)
	if t.kind != candidRecord {
		return candidError("Ok is not a record")
	}
	r.EndOfQueue = true
	var err error
	var found [3]bool
	for _, f := range c.fieldsOf(t) {
		switch f.id {
		case idMessages:
			err = r.decodeMessages(c, f.ref)
			found[0] = true
		case idCert:
			r.Cert, err = c.blobAs(f.ref)
			found[1] = true
		case idTree:
			r.Tree, err = c.blobAs(f.ref)
			found[2] = true
		case idIsEndOfQueue:
			r.EndOfQueue, r.EndStated, err = c.endOfQueue(f.ref)
		default:
			err = c.skip(f.ref)
		}
		if err != nil {
			return err
		}
	}
	if found != [3]bool{true, true, true} {
		return candidError("Ok lacks messages, cert or tree")
	}
	return nil
}

// endOfQueue reads is_end_of_queue: a bool or opt bool, true where nothing is stated.
func (c *candidReader) endOfQueue(ref int32) (end, stated bool, err error) {
	switch t := c.typeOf(ref); {
	case t.kind == candidBool:
		end, err = c.boolean()
		return end, true, err
	case t.kind == candidNull, t.kind == candidReserved:
		return true, false, nil
	case t.kind == candidOpt && t.ref == candidBool:
		if some, err := c.boolean(); err != nil || !some {
			return true, false, err
		}
		end, err = c.boolean()
		return end, true, err
	}
	return false, false, candidError("is_end_of_queue is not a bool")
}

// decodeMessages reads vec record{client_key: ClientKey; key: text; content: blob}.
func (r *Reply) decodeMessages(c *candidReader, ref int32) error {
	t := c.typeOf(ref)
	if t.kind != candidVec {
		return candidError("messages is not a vector")
	}
	n, err := c.leb()
	if err != nil || n == 0 { // of an empty vector the elements' type does not matter
		return err
	}
	elem := c.typeOf(t.ref)
	if elem.kind != candidRecord {
		return candidError("a message is not a record")
	}
	fields := c.fieldsOf(elem)
	if err := checkMessageFields(fields); err != nil {
		return err
	}
	if n > maxReplyMessages || n > uint64(len(c.rest)/minReplyMessage) {
		return candidError("more messages than the limit or the input allow")
	}
	r.Messages = slices.Grow(r.Messages[:0], int(n))[:n]
	for i := range r.Messages {
		if err := c.message(fields, &r.Messages[i]); err != nil {
			r.Messages = r.Messages[:0]
			return err
		}
	}
	return nil
}

// checkMessageFields checks that the type of a message has the fields we need, before room is made for any.
func checkMessageFields(fields []candidField) error {
	found := 0
	for _, f := range fields {
		if f.id == idClientKey || f.id == idKey || f.id == idContent {
			found++ // ids are strictly increasing, so each counts once
		}
	}
	if found != 3 {
		return candidError("a message lacks client_key, key or content")
	}
	return nil
}

func (c *candidReader) message(fields []candidField, m *Message) error {
	var err error
	for _, f := range fields {
		switch f.id {
		case idKey:
			m.Key, err = c.textBytesAs(f.ref)
		case idContent:
			m.Content, err = c.blobAs(f.ref)
		case idClientKey:
			err = c.clientKeyAs(f.ref, &m.Client)
		default:
			err = c.skip(f.ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
