package token

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Encodings of a stored record.
const (
	plainEncoding = 0
	flateEncoding = 1 // DEFLATE with dictionary1
)

// maxRecord bounds the size of a record, stored or expanded.
const maxRecord = 1 << 20

// worthwhile is the size from which compression pays off: below it, resetting
// the compressor costs more time than the disk saves.
const worthwhile = 512

// dictionary1 is text that records have in common, most frequent last. It is
// part of the format: a change needs a new encoding number.
const dictionary1 = `"truncated":true,"logins":[{"user":"root","line":"pts/0","host":"","pid":"skipped":"previous hosts",` +
	`"failure":"connection refused","ident":"","failure":"no answer","ports":["session":"answers":[{"host":"172.16.192.168.` +
	`Linux, Debian GNU/Linux "os":"Linux","release":"-amd64","kernel":"#1 SMP PREEMPT_DYNAMIC ","machine":"x86_64"},` +
	`"first":"","outcome":"no process holds this connection","netns":"container":"unit":"ssh.service","cgroup":"/system.slice/ssh.service",` +
	`"/user.slice/user-1000.slice/session-1.scope","more":"gone":true,"euid":1000,"started":"2026-"loginuid":1000,"sessionid":` +
	`"ssh":"192.168. 22","name":"systemd","name":"bash","name":"sh","exe":"/usr/bin/bash","exe":"/usr/bin/socat","exe":"/usr/bin/nc.openbsd",` +
	`"name":"sshd","exe":"/usr/sbin/sshd","/dev/null","/dev/ptmx","tty":"pts/0","files":["/dev/pts/0"],"files":["/dev/null"],"pipes":[` +
	`"state":"listen"},"state":"close-wait","direction":"unknown"},"state":"established","direction":"inbound"},{"inode":` +
	`"state":"established","direction":"outbound"}],"local":"10.0.0.1:22","remote":"10.0.0.` +
	`"direction":"outbound","host":{"name":"","boot":"2026-{"v":1,"time":"2026-","asker":"","kind":"SV_REC","session":,"kind":"SV","kind":"ID",` +
	`"uid":0,"user":"root","inode":,"cookie":,"processes":[{"pid":,"ppid":1,"name":"","via":"holds the socket","via":"unix","via":"tcp",` +
	`"via":"pipe","from":,"shared":,"via":"parent","from":,"uid":0,"euid":0,"started":"2026-11-` +
	`"sockets":[{"inode":,"local":"0.0.0.0:22","remote":"0.0.0.0:0","cgroup":"/","exe":"/usr/bin/","sha256":"`

// deflaters are reused: making one costs more than compressing a record.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriterDict(io.Discard, flate.BestCompression, []byte(dictionary1))
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return w
}}

// compressRecord returns the smaller of the record and its compressed form.
func compressRecord(record []byte) (encoding byte, data []byte) {
	if len(record) < worthwhile {
		return plainEncoding, record
	}
	var buf bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&buf)
	w.Write(record) // a bytes.Buffer never fails
	w.Close()
	if buf.Len() >= len(record) {
		return plainEncoding, record
	}
	return flateEncoding, buf.Bytes()
}

func expandRecord(encoding byte, data []byte) ([]byte, error) {
	switch encoding {
	case plainEncoding:
		return data, nil
	case flateEncoding:
		r := flate.NewReaderDict(bytes.NewReader(data), []byte(dictionary1))
		out, err := io.ReadAll(io.LimitReader(r, maxRecord+1))
		if err == nil && len(out) > maxRecord {
			err = errors.New("expands to more than 1 MiB")
		}
		if err != nil {
			return nil, fmt.Errorf("expand record: %w", err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("record encoding %d is unknown", encoding)
}
