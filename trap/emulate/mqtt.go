package emulate

import (
	"encoding/binary"
	"io"
)

// Packets of MQTT (OASIS MQTT 3.1.1 and 5.0, section 2.2).
const (
	mqttConnect, mqttConnack           = 1, 2
	mqttPublish, mqttPuback            = 3, 4
	mqttPubrec, mqttPubrel             = 5, 6
	mqttPubcomp                        = 7
	mqttSubscribe, mqttSuback          = 8, 9
	mqttUnsubscribe, mqttUnsuback      = 10, 11
	mqttPingreq, mqttPingresp          = 12, 13
	mqttDisconnect                     = 14
	mqttVersion5                  byte = 5
)

func isMQTT(first []byte) bool {
	return len(first) >= 8 && first[0] == mqttConnect<<4 && (string(first[4:8]) == "MQTT" || string(first[4:8]) == "MQIs" || string(first[2:8]) == "\x00\x04MQTT")
}

// readMQTT reads a packet. Its length is checked before memory is taken, which
// libraries for this protocol do not.
func readMQTT(c *Conn) (first byte, body []byte, err error) {
	if first, err = c.Reader.ReadByte(); err != nil {
		return 0, nil, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := c.Reader.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 21 {
			return 0, nil, errLimit
		}
	}
	if n > maxMessage {
		return 0, nil, errLimit
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.Reader, body)
	return first, body, err
}

// serveMQTT is a broker that accepts every login and every message, and delivers
// none.
func serveMQTT(c *Conn) error {
	version := byte(4)
	for range maxCommands {
		first, body, err := readMQTT(c)
		if err == errLimit {
			return drain(c)
		}
		if err != nil {
			return err
		}
		if first>>4 == mqttConnect {
			if n := versionAt(body); n < len(body) {
				version = body[n]
			}
		}
		out, done := answerMQTT(first, body, version)
		if _, err := c.Write(out); err != nil || done {
			return err
		}
	}
	return errLimit
}

// versionAt is where a CONNECT has its version: behind the protocol's name.
func versionAt(body []byte) int {
	if len(body) < 2 {
		return len(body)
	}
	return 2 + int(binary.BigEndian.Uint16(body))
}

// answerMQTT is the answer to a packet; done is after DISCONNECT.
func answerMQTT(first byte, body []byte, version byte) (out []byte, done bool) {
	identified := func(kind byte, id []byte, more ...byte) []byte {
		return append([]byte{kind, byte(2 + len(more)), id[0], id[1]}, more...)
	}
	switch first >> 4 {
	case mqttConnect:
		if version == mqttVersion5 { // with no properties
			return []byte{mqttConnack << 4, 3, 0, 0, 0}, false
		}
		return []byte{mqttConnack << 4, 2, 0, 0}, false
	case mqttPublish:
		at := versionAt(body) // the identifier is behind the topic
		if qos := first >> 1 & 3; at+2 <= len(body) && qos == 1 {
			return identified(mqttPuback<<4, body[at:]), false
		} else if at+2 <= len(body) && qos == 2 {
			return identified(mqttPubrec<<4, body[at:]), false
		}
	case mqttPubrel:
		if len(body) >= 2 {
			return identified(mqttPubcomp<<4, body), false
		}
	case mqttSubscribe, mqttUnsubscribe:
		if len(body) < 2 {
			return nil, false
		}
		kind, more := byte(mqttSuback<<4), []byte{0} // quality of service 0
		if first>>4 == mqttUnsubscribe {
			if kind, more = mqttUnsuback<<4, nil; version == mqttVersion5 {
				more = []byte{0}
			}
		}
		if version == mqttVersion5 {
			more = append([]byte{0}, more...) // no properties
		}
		return identified(kind, body, more...), false
	case mqttPingreq:
		return []byte{mqttPingresp << 4, 0}, false
	case mqttDisconnect:
		return nil, true
	}
	return nil, false
}
