package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Encoding is how the characters of a file are written.
type Encoding string

// The encodings. Auto takes UTF-8, and UTF-16 where its byte order mark stands at the start.
const (
	Auto        Encoding = ""
	UTF8        Encoding = "utf-8"
	UTF16       Encoding = "utf-16"
	Windows1252 Encoding = "windows-1252" // and Latin-1, of which it is more
)

// Encodings are the names of the encodings.
func Encodings() []string { return []string{string(UTF8), string(UTF16), string(Windows1252)} }

// decode returns the text of a file, without a byte order mark. Lines end with a line feed, also those that end with a carriage return alone
// (Excel's "CSV (Macintosh)").
func decode(data []byte, e Encoding) (string, error) {
	text, err := characters(data, e)
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, "\r", "\n")
	}
	return text, err
}

// characters returns the text of a file, without a byte order mark.
func characters(data []byte, e Encoding) (string, error) {
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return "", errors.New(`this is a workbook (xlsx, ods) or another zip archive; expected text: save it as "CSV UTF-8"`)
	case bytes.HasPrefix(data, []byte("\xd0\xcf\x11\xe0")):
		return "", errors.New(`this is a workbook (xls); expected text: save it as "CSV UTF-8"`)
	case e == Windows1252:
		return decode1252(data), nil
	}
	little, big := bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff})
	switch {
	case e == UTF8 && (little || big):
		return "", errors.New("this is UTF-16, by its byte order mark, expected UTF-8")
	case little || big:
		return decode16(data[2:], big)
	case e == UTF16:
		return decode16(data, len(data) > 0 && data[0] == 0)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return "", fmt.Errorf("line %d: a NUL octet, which no text has: if this is UTF-16, say --encoding utf-16", lineAt(data, i))
	}
	if !utf8.Valid(data) {
		i := 0
		for {
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		return "", fmt.Errorf(`line %d: the octet %#02x is not UTF-8. In Latin-1 (Windows-1252) it is %q: if the file is that, say --encoding windows-1252, or save it as "CSV UTF-8"`,
			lineAt(data, i), data[i], decode1252(data[i:i+1]))
	}
	return string(data), nil
}

func lineAt(data []byte, i int) int { return 1 + bytes.Count(data[:i], []byte{'\n'}) }

func decode16(data []byte, big bool) (string, error) {
	if len(data)%2 != 0 {
		return "", fmt.Errorf("UTF-16 with an odd number of octets, %d: the file is cut off, or is not UTF-16", len(data))
	}
	var order binary.ByteOrder = binary.LittleEndian
	if big {
		order = binary.BigEndian
	}
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff"), nil
}

// c1 is what Windows-1252 has at 80 to 9f, where Latin-1 has control characters.
var c1 = []rune("€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ")

func decode1252(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		if c >= 0x80 && c < 0xa0 {
			b.WriteRune(c1[c-0x80])
		} else {
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}
