#!/usr/bin/env bash
# Records the captures beside this file. As root, with nmap, masscan, aria2, tcpdump, python3 and nftables.
#
# record.sh records the cases for tuning, record.sh aside those that are judged once.
# A host 10.7.0.2 is in front of a network 10.8.0.0/24 of which .1 to .9 serve ports 80, 443 and 6881, .10 to .127
# refuse, and .128 to .255 are silent. Everything stays in two network namespaces.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d); a=rec$$a; b=rec$$b
trap 'ip netns pids $a | xargs -r kill 2>/dev/null; ip netns pids $b | xargs -r kill 2>/dev/null; ip netns del $a; ip netns del $b; rm -rf "$work"' EXIT
ip netns add $a; ip netns add $b
ip link add r0 netns $a type veth peer name r0 netns $b
for n in $a $b; do ip -n $n link set lo up; ip -n $n link set r0 up; done
ip -n $a addr add 10.7.0.2/24 dev r0; ip -n $b addr add 10.7.0.1/24 dev r0
ip -n $a route add default via 10.7.0.1
ip -n $b route add local 10.8.0.0/24 dev lo
ip netns exec $b sysctl -qw net.ipv4.icmp_ratelimit=0
ip netns exec $b nft -f - <<'N'
table inet rec {
chain in {
  type filter hook input priority 0; policy accept;
  ip daddr 10.8.0.128/25 drop
  ip daddr 10.8.0.10-10.8.0.127 tcp dport { 80, 443, 6881 } reject with tcp reset
}
}
N
cat > "$work/serve.py" <<'P'
# Serves ports that answer, and a tracker on 10.7.0.1:6969 whose peers are mostly dead.
import http.server, random, socket, struct, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'ok'
        if self.path.startswith('/announce'):
            draw = random.Random(int(sys.argv[1]))
            ends = [('10.8.0.%d' % draw.randrange(10, 256), draw.randrange(1024, 65000)) for _ in range(int(sys.argv[2]))]
            ends += [('10.8.0.%d' % n, 6881) for n in range(1, 8)]
            peers = b''.join(socket.inet_aton(h) + struct.pack('>H', p) for h, p in ends)
            body = b'd8:intervali10e5:peers%d:%se' % (len(peers), peers)
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
for port in (80, 443, 6881, 6969):
    s = http.server.ThreadingHTTPServer(('0.0.0.0', port), Answer)
    threading.Thread(target=s.serve_forever).start()
P
ip netns exec $b python3 "$work/serve.py" $([ "${1-}" = aside ] && echo 8 110 || echo 7 60) 2>/dev/null & sleep 1
record() { # record NAME CMD...: the packets that CMD makes
  local name=$1; shift
  ip netns exec $a tcpdump -Z root -i r0 -s 96 -U -w "$out/$name.pcap" 'tcp or icmp' 2>/dev/null & local dump=$!
  sleep 1; ip netns exec $a timeout 60 "$@" >/dev/null 2>&1 || true; sleep 1; kill $dump; wait $dump || true
  echo "$name $(stat -c %s "$out/$name.pcap")"
}
fast='-n -Pn -T4 --max-retries 0'
# A worm-like scan: connects once to random addresses at several ports, and now and then to a server that answers.
cat > "$work/once.py" <<'P'
import random, socket, sys
draw = random.Random(int(sys.argv[1])); n = int(sys.argv[2]); share = float(sys.argv[3])
open_, ends = [], []
for i in range(n):
    end = ('10.8.0.%d' % draw.randrange(1, 10), 80) if draw.random() < share else ('10.8.0.%d' % draw.randrange(10, 256), draw.choice([23, 2323, 445, 8080, 5555]))
    s = socket.socket(); s.settimeout(0.05)
    try: s.connect(end); s.sendall(b'GET / HTTP/1.0\r\n\r\n'); s.recv(100)
    except OSError: pass
    s.close()
P
# Monitoring: the same few targets, again and again, some down.
cat > "$work/monitor.py" <<'P'
import socket, sys
for _ in range(int(sys.argv[1])):
    for n in list(range(1, 10)) + list(range(10, int(sys.argv[2]))):
        s = socket.socket(); s.settimeout(0.05)
        try: s.connect(('10.8.0.%d' % n, 443))
        except OSError: pass
        s.close()
P
# Peer-to-peer clients whose tracker lists dead peers.
python3 - "$work" <<'P'
import sys
def torrent(name, seed):
    import hashlib
    info = b'd6:lengthi1000000e4:name%d:%s12:piece lengthi262144e6:pieces80:%se' % (len(name), name, hashlib.sha512(seed).digest() + hashlib.sha1(seed).digest()[:16])
    return b'd8:announce29:http://10.7.0.1:6969/announce4:info' + info + b'e'
open(sys.argv[1] + '/a.torrent', 'wb').write(torrent(b'a', b'1'))
open(sys.argv[1] + '/b.torrent', 'wb').write(torrent(b'b', b'2'))
P
if [ "${1-}" = aside ]; then
  record aside-scan-nmap-silent nmap -n -Pn -T3 --max-retries 1 -sS -p 22,3306 10.8.0.190-250
  record aside-scan-nmap-sT nmap $fast -sT -p 8080 10.8.0.1-90
  record aside-scan-nmap-sX nmap $fast -sX -p 21-23 10.8.0.60-100
  record aside-scan-nmap-ports nmap -n -Pn -T4 -sS --top-ports 100 10.8.0.30
  record aside-scan-masscan masscan 10.8.0.64/26 -p 22,8080,5900 --rate 100 --wait 2 --router-ip 10.7.0.1 -i r0
  record aside-scan-once-d python3 "$work/once.py" 11 200 0.03
  record aside-scan-once-e python3 "$work/once.py" 12 60 0.1
  record aside-probe-browse python3 "$work/once.py" 13 200 0.7
  record aside-probe-monitor python3 "$work/monitor.py" 8 60
  record aside-peer-aria2 aria2c --dir="$work" --enable-dht=false --bt-enable-lpd=false --bt-max-peers=0 --bt-tracker-interval=10 --bt-stop-timeout=45 "$work/a.torrent"
  exit
fi
for how in sS sT sF sN sX sA; do record scan-nmap-$how nmap $fast -$how -p 80 10.8.0.1-60; done
record scan-nmap-ports nmap $fast -sS --top-ports 60 10.8.0.20
record scan-nmap-silent nmap $fast -sS -p 23 10.8.0.140-220
record scan-nmap-manyports nmap $fast -sS -p 22,23,80,445,3389 10.8.0.100-160
record scan-masscan masscan 10.8.0.0/25 -p 445,3389 --rate 200 --wait 2 --router-ip 10.7.0.1 -i r0
record scan-once-a python3 "$work/once.py" 1 150 0.02
record scan-once-b python3 "$work/once.py" 2 150 0.02
record scan-once-c python3 "$work/once.py" 3 80 0.05
record probe-browse python3 "$work/once.py" 4 150 0.95
record probe-monitor-a python3 "$work/monitor.py" 20 25
record probe-monitor-b python3 "$work/monitor.py" 10 40
for t in a b; do
  record peer-aria2-$t aria2c --dir="$work" --enable-dht=false --bt-enable-lpd=false --bt-max-peers=0 --bt-tracker-interval=10 --bt-stop-timeout=45 "$work/$t.torrent"
done
