package variants

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Session is a synthetic benign payload of n bytes: web pages, mail, name
// lookups, file transfers and encrypted records, in the rough proportions of an
// office network. It replaces recorded traffic where none is available.
func Session(rng *rand.Rand, n int) []byte {
	var b []byte
	kind := rng.IntN(10)
	for len(b) < n {
		switch {
		case kind < 5:
			b = webPage(rng, b)
		case kind < 7:
			b = mailSession(rng, b)
		case kind < 8:
			b = dnsMessages(rng, b)
		case kind < 9:
			b = binaryTable(rng, b)
		default:
			b = tlsRecords(rng, b)
		}
	}
	return b[:n]
}

// FromCorpus is a Carrier that cuts its bytes from recorded benign payloads,
// continuing with the next if one is too short.
func FromCorpus(payloads [][]byte) Carrier {
	return func(rng *rand.Rand, n int) []byte {
		b := make([]byte, 0, n)
		for tries := 0; len(b) < n && tries < 1<<12; tries++ {
			p := payloads[rng.IntN(len(payloads))]
			if len(p) == 0 {
				continue
			}
			from := rng.IntN(max(1, len(p)-(n-len(b))+1))
			b = append(b, p[from:min(len(p), from+n-len(b))]...)
		}
		return b
	}
}

const syllables = "an be co de en fi ga ho in ju ka lo me no on pa qu re si to un va wo xe ya ze al ber con dis er for gen hal ing ion ment ness tion ward"

func appendWords(rng *rand.Rand, n int) string {
	parts := strings.Fields(syllables)
	var s strings.Builder
	for i := range n {
		if i > 0 {
			s.WriteByte(' ')
		}
		for range 1 + rng.IntN(4) {
			s.WriteString(parts[rng.IntN(len(parts))])
		}
	}
	return s.String()
}

func webPage(rng *rand.Rand, b []byte) []byte {
	if rng.IntN(2) == 0 {
		return fmt.Appendf(b, "GET /%s/%d?id=%x HTTP/1.1\r\nHost: www.%s.example\r\nUser-Agent: browser/%d.%d\r\nAccept: text/html,*/*\r\nCookie: s=%016x\r\n\r\n",
			appendWords(rng, 1), rng.IntN(1e4), rng.Uint32(), appendWords(rng, 1), rng.IntN(99), rng.IntN(10), rng.Uint64())
	}
	body := fmt.Sprintf("<html><head><title>%s</title></head><body class=\"%s\">\n<p>%s.</p>\n<a href=\"/%s\">%s</a></body></html>\n",
		appendWords(rng, 3), appendWords(rng, 1), appendWords(rng, 30+rng.IntN(200)), appendWords(rng, 1), appendWords(rng, 2))
	return fmt.Appendf(b, "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\nETag: \"%x\"\r\n\r\n%s", len(body), rng.Uint64(), body)
}

func mailSession(rng *rand.Rand, b []byte) []byte {
	b = fmt.Appendf(b, "MAIL FROM:<%s@example.org>\r\nRCPT TO:<%s@example.net>\r\nDATA\r\nSubject: %s\r\nMessage-ID: <%x>\r\n\r\n",
		appendWords(rng, 1), appendWords(rng, 1), appendWords(rng, 4), rng.Uint64())
	if rng.IntN(3) > 0 {
		return fmt.Appendf(b, "%s.\r\n.\r\n", appendWords(rng, 40+rng.IntN(120)))
	}
	const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for range 10 + rng.IntN(30) {
		for range 76 {
			b = append(b, base64[rng.IntN(64)])
		}
		b = append(b, '\r', '\n')
	}
	return b
}

// dnsMessages resembles DNS over TCP: a length, a header of mostly zeros, labels.
func dnsMessages(rng *rand.Rand, b []byte) []byte {
	name := appendWords(rng, 1)
	b = append(b, 0, byte(24+len(name)), byte(rng.Uint32()), byte(rng.Uint32()), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name)))
	b = append(b, name...)
	return append(b, 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 1, 0, 1)
}

// binaryTable resembles a binary file of fixed records: small numbers, little-endian.
func binaryTable(rng *rand.Rand, b []byte) []byte {
	for i := range 64 {
		v := uint32(rng.ExpFloat64() * 3000)
		b = append(b, byte(i), 0, byte(v), byte(v>>8), byte(v>>16), 0, byte(rng.IntN(4)), 0xff)
	}
	return b
}

// tlsRecords resembles TLS application data: a short header, then uniform bytes.
func tlsRecords(rng *rand.Rand, b []byte) []byte {
	n := 200 + rng.IntN(1200)
	b = append(b, 0x17, 3, 3, byte(n>>8), byte(n))
	return append(b, randomBytes(rng, n)...)
}
