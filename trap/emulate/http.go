package emulate

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"
)

func isHTTP(first []byte) bool {
	for _, m := range []string{"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "CONNECT ", "TRACE ", "PROPFIND ", "SEARCH ", "PATCH "} {
		if bytes.HasPrefix(first, []byte(m)) {
			return true
		}
	}
	return false
}

const page = "<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"

// maxRequests bounds the requests of one connection.
const maxRequests = 1000

// serveHTTP answers each request with the same page (RFC 9112). A request that
// cannot be parsed is answered 400, and the rest of it is recorded.
func serveHTTP(c *Conn) error {
	for range maxRequests {
		r, err := http.ReadRequest(c.Reader)
		if err != nil {
			if _, failed := io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"); failed != nil {
				return err
			}
			return drain(c)
		}
		if r.Header.Get("Expect") == "100-continue" {
			if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
				return err
			}
		}
		n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain))
		if err != nil {
			return err
		}
		if n == maxDrain {
			return errLimit
		}
		body := page
		if r.Method == http.MethodHead {
			body = ""
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\nServer: Apache\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s",
			time.Now().UTC().Format(http.TimeFormat), len(page), body); err != nil {
			return err
		}
		if r.Close {
			return nil
		}
	}
	return errLimit
}
