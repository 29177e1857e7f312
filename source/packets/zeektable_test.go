package packets

import "strings"

// zeekTest is a test of Zeek (testing/btest in its repository): the name of
// its expected conn.log, the trace it reads and how it is run.
type zeekTest struct {
	name, trace string
	how         options
}

// options are how Zeek is run, and what is compared.
type options uint8

const (
	ignoreChecksums options = 1 << iota // zeek -C
	bare                                // zeek -b: no protocol scripts, so no server ports but those of tunnels
	outside                             // compare only flows outside tunnels
)

func (o options) String() string {
	var s []string
	for i, name := range []string{"-C", "-b", "(outside tunnels)"} {
		if o&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, " ")
}

// Reasons why flows differ from what Zeek logs.
const (
	unsupportedLink = "its link type, 802.11, is not supported"
	contentLimit    = "Zeek marks with X that a limit on parsed content was reached; content is not parsed here"
	byContent       = "Zeek recognised the protocol by its content and treated the flow specially"
	cutHeader       = "Zeek logs an empty flow for a TCP header that the capture cut; here the packet is a counted problem"
	clockResolution = "times have nanoseconds, which Zeek rounds"
	offloaded       = "checksums were left to the network card; Zeek drops those packets"
	tunnelled       = "the flow is in a tunnel, although the log does not say so"
	segmentation    = "IP lengths are 0 because the network card was to segment; Zeek counts no bytes for them"
)

// zeekDifferences are the tests whose flows are known to differ.
var zeekDifferences = []struct {
	zeekTest
	why string
}{
	{zeekTest{"core.radiotap", "radiotap.pcap", ignoreChecksums}, unsupportedLink},
	{zeekTest{"core.reporter-limit-reached-weird", "http/get.pcap", 0}, contentLimit},
	{zeekTest{"core.skip_analyzer", "tunnels/gre-sample.pcap", ignoreChecksums | outside}, tunnelled},
	{zeekTest{"core.tunnels.count-default-tunnel-changes", "tunnels/tunnel-direct-bypass.pcap", outside}, contentLimit},
	{zeekTest{"core.tunnels.geneve-inner-tcp-bad-checksum", "tunnels/geneve-inner-tcp-bad-checksum.pcap", outside}, tunnelled},
	{zeekTest{"core.tunnels.vxlan-inner-tcp-bad-checksum", "tunnels/vxlan-inner-tcp-bad-checksum.pcap", outside}, tunnelled},
	{zeekTest{"core.tunnels.vxlan-unknown-internal-packet", "tunnels/vxlan-encapsulated-igmp-v2.pcap", outside}, offloaded},
	{zeekTest{"core.vntag-in-vlan", "vntag_vlan_sandwich_clean.pcap", ignoreChecksums}, cutHeader},
	{zeekTest{"core.vntag", "vntag.pcap", ignoreChecksums}, clockResolution},
	{zeekTest{"core.wlanmon", "wlanmon.pcap", ignoreChecksums}, unsupportedLink},
	{zeekTest{"scripts.base.frameworks.logging.field-name-map2", "auth_change_session_keys.pcap", 0}, offloaded},
	{zeekTest{"scripts.base.protocols.ftp.ftp-max-command-length", "ftp/fake-long-commands.pcap", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.ftp.gridftp", "globus-url-copy.pcap", 0}, byContent},
	{zeekTest{"scripts.base.protocols.gnutella.max-header-length", "gnutella/max-header.pcapng", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.gnutella.max-line-length", "gnutella/max-line.pcapng", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.http.deeply-nested-mime", "http/deeply-nested-mime.pcap", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.ldap.sasl-signed-clear-2", "ldap/missing_krbtgt_ldap_request.pcapng", ignoreChecksums}, segmentation},
	{zeekTest{"scripts.base.protocols.ldap.sasl-signed-clear", "ldap/missing_ldap_logs.pcapng", ignoreChecksums}, segmentation},
	{zeekTest{"scripts.base.protocols.login.nvt-option-length", "contentline/telnet-unclosed-suboption.pcapng.gz", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.login.rlogin-line-length", "contentline/rlogin-long-client-user-no-nul.pcapng.gz", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.login.rsh-line-length", "contentline/rsh-long-client-user-no-nul.pcapng.gz", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.ncp.frame_size_tuning", "ncp.pcap", ignoreChecksums}, contentLimit},
	{zeekTest{"scripts.base.protocols.ntp.misordered-ntp", "ntp/misordered-ntp.pcap", ignoreChecksums}, byContent},
	{zeekTest{"scripts.base.protocols.smtp.mime-header-size-limit", "smtp/mime-header-size-limit.pcap.gz", 0}, contentLimit},
	{zeekTest{"scripts.base.protocols.ssh.max-kexinit-algorithms", "ssh/kex-quadratic-1000.pcap.gz", 0}, contentLimit},
}

// zeekTests are the tests whose flows must be equal.
var zeekTests = []zeekTest{
	{"core.cisco-fabric-path", "cisco-fabric-path.pcap", 0},
	{"core.erspanI", "erspanI.pcap", outside},
	{"core.erspanII", "erspanII.pcap", outside},
	{"core.erspanIII", "erspanIII.pcap", outside},
	{"core.history-flip", "tcp/missing-syn.pcap", ignoreChecksums},
	{"core.local-flip", "http/zeek-image-post-1080-8000-x.pcap", ignoreChecksums},
	{"core.mpls-in-vlan", "mpls-in-vlan.pcap", ignoreChecksums},
	{"core.pbb", "pbb.pcap", 0},
	{"core.pcapng-pktsrc", "pcapng-multi-interface.pcapng", ignoreChecksums},
	{"core.ppp", "ppp/quic-interop-retry.pcap", 0},
	{"core.pppoe-over-qinq", "pppoe-over-qinq.pcap", 0},
	{"core.pppoe", "pppoe.pcap", 0},
	{"core.q-in-q", "q-in-q.pcap", 0},
	{"core.tcp-padding", "tcp-http-with-padding.pcap", ignoreChecksums},
	{"core.tcp.bad-checksum-syn", "tcp/syn-bad.pcap", 0},
	{"core.tcp.flip-without-syn", "tcp/http-on-irc-port-missing-syn.pcapng", 0},
	{"core.tcp.large-file-reassembly", "ftp/bigtransfer.pcap", 0},
	{"core.tcp.miss-end-data", "tcp/miss_end_data.pcap", 0},
	{"core.tcp.missing-syn", "tcp/missing-syn.pcap", ignoreChecksums},
	{"core.tcp.reassembly-known-ports", "http/get.pcap", 0},
	{"core.tunnels.analyzer-confirmation", "tunnels/vxlan-encapsulated-http.pcap", outside},
	{"core.tunnels.ayiya-large-identity", "tunnels/ayiya-large-identity.pcap", outside},
	{"core.tunnels.ayiya", "tunnels/ayiya3.pcap", outside},
	{"core.tunnels.geneve-47101", "tunnels/geneve-47101.pcap", ignoreChecksums | outside},
	{"core.tunnels.geneve-arp", "tunnels/geneve-arp.pcap", outside},
	{"core.tunnels.geneve-ipv6", "tunnels/geneve-ipv6.pcap", outside},
	{"core.tunnels.geneve-vxlan-truncated", "tunnels/geneve-vxlan-dns-truncated.pcap", outside},
	{"core.tunnels.geneve", "tunnels/geneve.pcap", outside},
	{"core.tunnels.gre-aruba-amsdu", "tunnels/gre-aruba-amsdu.pcap", outside},
	{"core.tunnels.gre-in-gre", "tunnels/gre-within-gre.pcap", outside},
	{"core.tunnels.gre-over-udp", "tunnels/gre-over-udp-4754.pcap", outside},
	{"core.tunnels.gre-pptp", "tunnels/gre-pptp.pcap", outside},
	{"core.tunnels.gre", "tunnels/gre-sample.pcap", outside},
	{"core.tunnels.gtp.different_dl_and_ul", "tunnels/gtp/gtp2_different_udp_port.pcap", ignoreChecksums | outside},
	{"core.tunnels.gtp.false_gtp", "tunnels/gtp/gtp3_false_gtp.pcap", outside},
	{"core.tunnels.gtp.inner_ipv6", "tunnels/gtp/gtp7_ipv6.pcap", outside},
	{"core.tunnels.gtp.inner_teredo", "tunnels/gtp/gtp8_teredo.pcap", outside},
	{"core.tunnels.gtp.not_user_plane_data", "tunnels/gtp/gtp10_not_0xff.pcap", outside},
	{"core.tunnels.gtp.opt_header", "tunnels/gtp/gtp6_gtp_0x32.pcap", outside},
	{"core.tunnels.gtp.outer_ip_frag", "tunnels/gtp/gtp1_gn_normal_incl_fragmentation.pcap", ignoreChecksums | outside},
	{"core.tunnels.teredo", "tunnels/Teredo.pcap", outside},
	{"core.tunnels.teredo_bubble_with_payload", "tunnels/teredo_bubble_with_payload.pcap", outside},
	{"core.tunnels.vxlan", "tunnels/vxlan.pcap", outside},
	{"core.udp-corrupt", "dns/dns-corrupt.pcap", 0},
	{"core.unknown-ip-protocol", "communityid/sctp.pcap", 0},
	{"core.vlan-mpls", "mixed-vlan-mpls.pcap", ignoreChecksums},
	{"opt.basic", "wikipedia.pcap", 0},
	{"scripts.base.frameworks.analyzer.dpd-logging-configuration-2", "ftp/ftp-invalid-reply-code.pcap", 0},
	{"scripts.base.frameworks.analyzer.dpd-logging-configuration", "ftp/ftp-invalid-reply-code.pcap", 0},
	{"scripts.base.frameworks.logging.field-extension-complex", "wikipedia.pcap", bare},
	{"scripts.base.frameworks.logging.field-extension-invalid", "http/get.pcap", 0},
	{"scripts.base.frameworks.logging.field-extension-optional", "wikipedia.pcap", bare},
	{"scripts.base.frameworks.logging.field-extension", "wikipedia.pcap", bare},
	{"scripts.base.frameworks.logging.field-name-map", "wikipedia.pcap", bare},
	{"scripts.base.frameworks.logging.scope_sep", "wikipedia.pcap", bare},
	{"scripts.base.frameworks.logging.scope_sep_and_field_name_map", "wikipedia.pcap", bare},
	{"scripts.base.protocols.dhcp.dhcp-all-msg-types", "dhcp/dhcp.pcap", 0},
	{"scripts.base.protocols.ftp.cwd-navigation", "ftp/cwd-navigation.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-auth-tls", "ftp/ftp-auth-tls.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-invalid-reply-code", "ftp/ftp-invalid-reply-code.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-ipv4", "ftp/ipv4.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-ipv6", "ftp/ipv6.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-max-pending-commands", "ftp/fake-server-delays-all.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-missing-reply-code", "ftp/ftp-missing-reply-code.pcap", 0},
	{"scripts.base.protocols.ftp.ftp-missing-space-after-reply-code", "ftp/ftp-missing-space-after-reply-code.pcap", 0},
	{"scripts.base.protocols.http.261.chunk-2pow64-overflow", "http/261/variant-01-chunk_2pow64_overflow.pcap", 0},
	{"scripts.base.protocols.http.261.chunked-rest", "http/261/variant-10-multi_value_te.pcap", 0},
	{"scripts.base.protocols.http.261.cl-0-expect-100", "http/261/variant-07-expect_100_cl0.pcap", 0},
	{"scripts.base.protocols.http.261.cl-leading-zeros", "http/261/variant-08-leading_zeros.pcap", 0},
	{"scripts.base.protocols.http.261.cl-negative", "http/261/variant-03-cl_negative.pcap", 0},
	{"scripts.base.protocols.http.261.cl-uint64max", "http/261/variant-02-cl_uint64max.pcap", 0},
	{"scripts.base.protocols.http.261.obsolete-line-fold", "http/261/variant-09-te_obs_fold.pcap", 0},
	{"scripts.base.protocols.http.261.te-cl-desync", "http/261/variant-04-te_cl_desync.pcap", 0},
	{"scripts.base.protocols.http.concurrent-range-requests", "http/concurrent-range-requests.pcap", 0},
	{"scripts.base.protocols.http.content-length-overflow", "http/content-length-overflow.pcap", 0},
	{"scripts.base.protocols.http.http-connect-with-header", "http/connect-with-header.pcap", ignoreChecksums},
	{"scripts.base.protocols.http.http-connect", "http/connect-with-smtp.pcap", 0},
	{"scripts.base.protocols.http.http-no-crlf", "http/no_crlf.pcap", 0},
	{"scripts.base.protocols.http.invalid-content-ranges", "http/invalid-content-ranges.pcap", 0},
	{"scripts.base.protocols.http.query-method-non-standard-port", "http/query-method-non-standard-port.pcap", 0},
	{"scripts.base.protocols.http.query-method", "http/query-method.pcap", 0},
	{"scripts.base.protocols.imap.starttls", "tls/imap-starttls.pcap", ignoreChecksums},
	{"scripts.base.protocols.irc.basic", "irc-dcc-send.pcapng", 0},
	{"scripts.base.protocols.irc.starttls", "tls/irc-starttls.pcap", ignoreChecksums},
	{"scripts.base.protocols.krb.krb-service-name", "krb/optional-service-name.pcap", 0},
	{"scripts.base.protocols.ldap.add", "ldap/ldap-add.pcap", 0},
	{"scripts.base.protocols.ldap.attributes", "ldap/simpleauth.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.basic", "ldap/simpleauth.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.diff_port", "ldap/simpleauth-diff-port.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.gap", "ldap/gap-data-missing.pcapng", 0},
	{"scripts.base.protocols.ldap.ldap_substring_search", "ldap/ldap_star_single.pcapng", ignoreChecksums},
	{"scripts.base.protocols.ldap.log_policy", "ldap/simpleauth.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.modify-request", "ldap/modify-request.pcapng", ignoreChecksums},
	{"scripts.base.protocols.ldap.pending-messages-exceeded", "ldap/pending-adds-10.pcap", 0},
	{"scripts.base.protocols.ldap.pending-searches-exceeded", "ldap/pending-searches-10.pcap", 0},
	{"scripts.base.protocols.ldap.sasl-encrypted", "ldap/krb5-sign-seal-01.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.sasl-gss-spnego-ntlm", "ldap/ctu-60387-63723-ldap.pcap", ignoreChecksums},
	{"scripts.base.protocols.ldap.sasl-ntlm", "ldap/sasl-ntlm.pcap", 0},
	{"scripts.base.protocols.ldap.sasl-scram-sha-512", "ldap/sasl-scram-sha-512.pcap", 0},
	{"scripts.base.protocols.ldap.sasl-srp-who-am-i", "ldap/sasl-srp-who-am-i.pcap", 0},
	{"scripts.base.protocols.ldap.spnego-ntlmssp", "ldap/ctu-sme-11-win7ad-1-ldap-tcp-50041.pcap", 0},
	{"scripts.base.protocols.ldap.starttls", "ldap/ldap-starttls.pcap", 0},
	{"scripts.base.protocols.ldap.who-am-i", "ldap/ldap-who-am-i.pcap", 0},
	{"scripts.base.protocols.modbus.modbus_and_non_modbus_on_port_502", "modbus/modbus-and-non-modbus-p502.pcap", 0},
	{"scripts.base.protocols.mysql.encrypted", "mysql/encrypted.pcap", 0},
	{"scripts.base.protocols.pop3.bad-list-retr-crafted", "pop3/bad-list-retr-crafted.pcap", 0},
	{"scripts.base.protocols.pop3.basic", "pop3/pop3.pcap", 0},
	{"scripts.base.protocols.pop3.redis", "pop3/redis-50-pings.pcap", 0},
	{"scripts.base.protocols.pop3.starttls", "tls/pop3-starttls.pcap", ignoreChecksums},
	{"scripts.base.protocols.postgresql.greenhouse-app", "postgresql/greenhouse-app.pcap", ignoreChecksums},
	{"scripts.base.protocols.quic.dpd-custom-port", "quic/chromium-dpd-custom-port-4433.pcap", 0},
	{"scripts.base.protocols.quic.dpd-v2-custom-port", "quic/quicv2-echo-dpd-custom-port-4433.pcap", 0},
	{"scripts.base.protocols.rdp.rdpeudp-handshake-fail", "rdp/rdpeudp-handshake-fail.pcap", 0},
	{"scripts.base.protocols.rdp.rdpeudp-handshake-success", "rdp/rdpeudp-handshake-success.pcap", 0},
	{"scripts.base.protocols.redis.django-cloud", "redis/django-cloud.pcapng", 0},
	{"scripts.base.protocols.rpc.max-pending-calls", "portmapper-many-unanswered-calls.pcapng.gz", 0},
	{"scripts.base.protocols.ssh.basic", "ssh/ssh.pcap", 0},
	{"scripts.base.protocols.ssh.dh_group18_kex", "ssh/ssh_kex_dh_group18.pcap", 0},
	{"scripts.base.protocols.ssh.half-duplex-client", "ssh/ssh.client-side-half-duplex.pcap", 0},
	{"scripts.base.protocols.ssh.half-duplex-server", "ssh/ssh.server-side-half-duplex.pcap", 0},
	{"scripts.base.protocols.ssh.http-port-22", "http/http-single-conn-22.pcap", 0},
	{"scripts.base.protocols.ssh.pre-banner", "ssh/server-pre-banner-data.pcap", 0},
	{"scripts.base.protocols.syslog.tcp-framing-nontransparent", "tcp-syslog-nontransparent.pcap", ignoreChecksums},
	{"scripts.base.protocols.syslog.tcp-framing", "tcp-syslog.pcap", ignoreChecksums},
	{"scripts.base.protocols.websocket.broker-websocket", "websocket/broker-websocket.pcap", 0},
	{"scripts.base.protocols.websocket.jupyter-websocket", "websocket/jupyter-websocket.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-http", "websocket/wstunnel-http.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-https", "websocket/wstunnel-https.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-ssh-configure-break", "websocket/wstunnel-ssh.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-ssh-configure-wrong", "websocket/wstunnel-ssh.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-ssh-configure", "websocket/wstunnel-ssh.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-ssh-disabled", "websocket/wstunnel-ssh.pcap", 0},
	{"scripts.base.protocols.websocket.wstunnel-ssh", "websocket/wstunnel-ssh.pcap", 0},
	{"scripts.base.protocols.xmpp.starttls", "tls/xmpp-starttls.pcap", 0},
	{"scripts.policy.protocols.conn.vlan-logging", "q-in-q.pcap", 0},
	{"signatures.eval-condition", "ftp/ipv4.pcap", 0},
	{"spicy.replaces", "ssh/ssh-on-port-80.pcap", 0},
}
