#!/usr/bin/env bash
# Records the captures beside this file. As root, with nmap, masscan, zmap, aria2, transmission-cli, haproxy,
# monitoring-plugins-basic, tcpdump, python3 and nftables.
#
# record.sh records the cases for tuning, record.sh aside and record.sh third more of them, record.sh fourth those that are
# judged once.
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
ip netns exec $b python3 "$work/serve.py" $(case "${1-}" in aside) echo 8 110;; third) echo 9 90;; fourth) echo 10 75;; *) echo 7 60;; esac) 2>/dev/null & sleep 1
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
if [ "${1-}" = third ]; then
  # Torrents whose trackers are dead but for one; the clients have their usual settings.
  python3 - "$work" <<'P'
import hashlib, sys
for name, seed in (b'c', b'3'), (b'd', b'4'):
    trackers = [b'http://10.7.0.1:6969/announce'] + [b'http://10.8.0.%d:%d/announce' % (140 + n, 6900 + n) for n in range(8)]
    tiers = b''.join(b'l%d:%se' % (len(u), u) for u in trackers)
    info = b'd6:lengthi1000000e4:name%d:%s12:piece lengthi262144e6:pieces80:%se' % (len(name), name, hashlib.sha512(seed).digest() + hashlib.sha1(seed).digest()[:16])
    open('%s/%s.torrent' % (sys.argv[1], name.decode()), 'wb').write(b'd8:announce29:' + trackers[0] + b'13:announce-listl' + tiers + b'e4:info' + info + b'e')
P
  cat > "$work/checks.sh" <<'C'
for round in 1 2 3 4; do
  for n in $(seq 1 40) $(seq 200 215); do /usr/lib/nagios/plugins/check_tcp -H 10.8.0.$n -p 443 -t 1 & done
  wait; sleep 10
done
C
  mac=$(ip -n $b -br link show r0 | awk '{print $3}')
  record third-scan-nmap-silent nmap -n -Pn -T4 -sS -p 8443 10.8.0.130-210
  record third-scan-nmap-default nmap -n -Pn -sS -p 22,445 10.8.0.90-160
  record third-scan-nmap-sT nmap -n -Pn -T4 -sT -p 25 10.8.0.128-200
  record third-scan-masscan-retries masscan 10.8.0.128/26 -p 6379 --rate 50 --retries 2 --wait 2 --router-ip 10.7.0.1 -i r0
  record third-scan-zmap zmap -p 2222 -P 2 -r 60 -c 2 -i r0 -G "$mac" -S 10.7.0.2 -b /dev/null -o /dev/null 10.8.0.64/26 10.8.0.160/27
  record third-scan-once python3 "$work/once.py" 21 120 0.04
  record third-peer-transmission transmission-cli -w "$work" -g "$work/tr" -M -p 51413 "$work/c.torrent"
  record third-peer-aria2 aria2c --dir="$work" --enable-dht=false --bt-enable-lpd=false --bt-stop-timeout=55 "$work/d.torrent"
  record third-probe-checks bash "$work/checks.sh"
  record third-probe-browse python3 "$work/once.py" 22 200 0.6
  exit
fi
if [ "${1-}" = fourth ]; then
  # Torrents whose trackers are dead but for one; the clients have their usual settings.
  python3 - "$work" <<'P'
import hashlib, sys
for name, seed in (b'e', b'5'), (b'f', b'6'):
    trackers = [b'http://10.7.0.1:6969/announce'] + [b'http://10.8.0.%d:%d/announce' % (20 + 9 * n, 7000 + n) for n in range(20)]
    tiers = b''.join(b'l%d:%se' % (len(u), u) for u in trackers)
    info = b'd6:lengthi1000000e4:name%d:%s12:piece lengthi262144e6:pieces80:%se' % (len(name), name, hashlib.sha512(seed).digest() + hashlib.sha1(seed).digest()[:16])
    open('%s/%s.torrent' % (sys.argv[1], name.decode()), 'wb').write(b'd8:announce29:' + trackers[0] + b'13:announce-listl' + tiers + b'e4:info' + info + b'e')
P
  # A load balancer most of whose servers are down.
  cat > "$work/haproxy.cfg" <<H
defaults
  mode tcp
  timeout connect 2s
  timeout client 2s
  timeout server 2s
  timeout check 1s
listen farm
  bind 10.7.0.2:8000
$(for n in $(seq 3 60) $(seq 150 180); do echo "  server s$n 10.8.0.$n:443 check inter 7s"; done)
H
  # A worm that uses the system's connections, which send a SYN again, and gives each eight seconds.
  cat > "$work/worm.py" <<'P'
import random, socket, sys, threading
draw = random.Random(int(sys.argv[1]))
def attack(ends):
    for end in ends:
        s = socket.socket(); s.settimeout(8)
        try: s.connect(end)
        except OSError: pass
        s.close()
hosts = list(range(10, 256)); draw.shuffle(hosts)
threads = [threading.Thread(target=attack, args=([('10.8.0.%d' % n, draw.choice([23, 2323, 7547])) for n in hosts[i:i + 7]],)) for i in range(0, 140, 7)]
for t in threads: t.start()
for t in threads: t.join()
P
  cat > "$work/fetch.sh" <<'C'
for round in 1 2 3 4 5; do
  for n in $(seq 1 9) $(seq 20 3 240); do curl -s -o /dev/null --connect-timeout 1 --retry 1 http://10.8.0.$n/ & done
  wait; sleep 4
done
C
  mac=$(ip -n $b -br link show r0 | awk '{print $3}')
  record fourth-scan-worm python3 "$work/worm.py" 31
  record fourth-scan-nmap-retries nmap -n -Pn -T4 --max-retries 2 -sS -p 9200,8888 10.8.0.170-215
  record fourth-scan-nmap-sF nmap -n -Pn -T4 -sF -p 53 10.8.0.150-230
  record fourth-scan-masscan-retries masscan 10.8.0.192/26 -p 27017 --rate 30 --retries 1 --wait 2 --router-ip 10.7.0.1 -i r0
  record fourth-scan-zmap zmap -p 5432 -P 3 -r 90 -c 2 -i r0 -G "$mac" -S 10.7.0.2 -b /dev/null -o /dev/null 10.8.0.96/27 10.8.0.128/26
  record fourth-scan-once python3 "$work/once.py" 33 90 0.05
  record fourth-peer-transmission transmission-cli -w "$work" -g "$work/tr2" -M -p 51414 "$work/e.torrent"
  record fourth-peer-aria2 aria2c --dir="$work" --enable-dht=false --bt-enable-lpd=false --bt-stop-timeout=55 "$work/f.torrent"
  record fourth-probe-haproxy haproxy -db -f "$work/haproxy.cfg"
  record fourth-probe-fetch bash "$work/fetch.sh"
  record fourth-probe-browse python3 "$work/once.py" 34 250 0.8
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
