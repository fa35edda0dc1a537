package localnet

// Metadata is implemented by canisters that publish custom sections of their
// module, as the tools of the Internet Computer make them: by name, readable by
// everybody at /canister/<id>/metadata/<name>. It is asked after each message
// that changed certified data, and must not change while a module is installed.
type Metadata interface {
	Metadata() map[string][]byte
}

// describe enters what c publishes into the certified information about it.
func (info *node) describe(c Canister) *node {
	m, ok := c.(Metadata)
	if !ok {
		return info
	}
	var sections *node
	for name, content := range m.Metadata() {
		sections = sections.with([]byte(name), leafOf(content))
	}
	if sections == nil {
		return info
	}
	return info.with([]byte("metadata"), mapOf(sections))
}

// cdkInterface is the Candid interface of a canister made with the CDK. The
// type of the application's messages is that of the Echo and PingPong apps.
const cdkInterface = `type ClientKey = record { client_principal : principal; client_nonce : nat64 };
type WebsocketMessage = record {
  client_key : ClientKey;
  sequence_num : nat64;
  timestamp : nat64;
  is_service_message : bool;
  content : blob;
};
type Result = variant { Ok; Err : text };
type CertifiedMessages = record {
  messages : vec record { client_key : ClientKey; key : text; content : blob };
  cert : blob;
  tree : blob;
  is_end_of_queue : bool;
};
service : {
  ws_open : (record { client_nonce : nat64; gateway_principal : principal }) -> (Result);
  ws_close : (record { client_key : ClientKey }) -> (Result);
  ws_message : (record { msg : WebsocketMessage }, opt record { "text" : text }) -> (Result);
  ws_get_messages : (record { nonce : nat64 }) -> (variant { Ok : CertifiedMessages; Err : text }) query;
}
`

// Metadata implements Metadata: canisters made with the CDK publish their
// interface, as dfx and icp-cli build them.
func (c *CDK) Metadata() map[string][]byte {
	return map[string][]byte{"candid:service": []byte(cdkInterface)}
}
