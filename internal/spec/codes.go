package spec

// The codes of diagnostics. Programs rely on them: a code is never reused for something
// else.
const (
	// The file as text.
	codeEmpty     = "empty-file"
	codeLarge     = "too-large"
	codeEncoding  = "not-utf8"
	codeControl   = "control-character"
	codeTab       = "tab"
	codeSyntax    = "yaml-syntax"
	codeDeep      = "too-deep"
	codeAlias     = "yaml-alias"
	codeTag       = "yaml-tag"
	codeDocuments = "several-documents"
	codeMore      = "more"

	// Keys and the kinds of their values.
	codeUnknownKey   = "unknown-key"
	codeDuplicateKey = "duplicate-key"
	codeMissingKey   = "missing-key"
	codeKeyKind      = "key-not-a-name"
	codeWrongType    = "wrong-type"
	codeNoValue      = "no-value"
	codeBadValue     = "bad-value"
	codeRange        = "out-of-range"
	codeTooFew       = "too-few"
	codeTooMany      = "too-many"
	codeSecret       = "secret-in-file"

	// Names, keys, addresses.
	codeBadName           = "bad-name"
	codeReservedName      = "reserved-name"
	codeBadDevice         = "bad-device"
	codeDuplicateName     = "duplicate-name"
	codeInterfaceName     = "interface-name"
	codeShortened         = "shortened-name"
	codeBadKey            = "bad-key"
	codeDuplicateKeyValue = "duplicate-public-key"
	codeMissingPublicKey  = "missing-public-key"
	codeFamily            = "wrong-family"
	codeHostBits          = "host-bits"
	codeNoLength          = "no-length"
	codeOverlay           = "bad-overlay"
	codeOutside           = "address-outside"
	codeDuplicateAddress  = "duplicate-address"
	codeHashCollision     = "address-collision"
	codeSpecialPrefix     = "special-prefix"
	codeOverlap           = "overlapping-lans"
	codeOverlapFabric     = "lan-in-overlay"
	codeMapping           = "bad-mapping"

	// Sites.
	codeUnknownSite     = "unknown-site"
	codePlain           = "plain-site"
	codeBadEndpoint     = "bad-endpoint"
	codeDuplicateEnd    = "duplicate-endpoint"
	codeEndpointInside  = "endpoint-inside"
	codeInbound         = "inbound"
	codeUplink          = "bad-uplink"
	codeGateway         = "bad-gateway"
	codeCheck           = "bad-check"
	codeUnchecked       = "unchecked-uplinks"
	codeDeviceTwice     = "device-twice"
	codeUplinkOverlap   = "uplink-overlap"
	codeSmallMTU        = "small-mtu"
	codeLargeMTU        = "large-mtu"
	codePort            = "port-overflow"
	codePortClash       = "port-clash"
	codeSettings        = "bad-setting"
	codeNeighbourNumber = "number-in-use"
	codeProbe           = "bad-probe"
	codeBabel           = "bad-babel"

	// Links.
	codeSelfLink    = "self-link"
	codeTwice       = "twice"
	codeUnreachable = "unreachable"
	codeNotJoined   = "not-joined"
	codeNotMade     = "link-not-made"
	codeNoTunnel    = "no-tunnel"
	codeStaticPort  = "static-port"

	// Clients, exits, published ports, segments.
	codeClients     = "bad-clients"
	codeFarDoor     = "far-door"
	codeUnknownFor  = "unknown-source"
	codeExit        = "bad-exit"
	codeStaticExit  = "second-static-exit"
	codeFarExit     = "far-exit"
	codeExitNames   = "names-beside-exit"
	codePublish     = "bad-publish"
	codeSegment     = "bad-segment"
	codeUnknownHost = "unknown-host"

	// NAT and access.
	codeNAT        = "bad-nat"
	codePolicy     = "bad-policy"
	codeUnknownWho = "unknown-party"
	codeShadowed   = "rule-never-matches"

	codeKeylessDevice = "device-without-key"

	// What is right.
	codeUnbuilt = "unbuilt"
)
