// Package control is the Unix socket by which an administrator asks a running server, and the words that both sides use.
// It knows nothing of DHCP: whoever has something to tell registers a command.
//
// One connection carries one request and its answer, both JSON, one value a line:
//
//	{"command":"leases","args":{"network":"radiology"}}
//
//	{"item":{"address":"192.0.2.100", ...}}
//	{"item":{"address":"192.0.2.101", ...}}
//	{"done":true}
//
// An answer is streamed, so its length costs neither side any memory. Its last line is "done" or {"error":"why"}: an answer
// that a crash cuts off cannot be taken for a short one.
//
// Who may ask is a matter of the file system. The socket has mode 0600 from the moment that it is there: it is made in a
// directory of its own and moved to its place while it listens, so neither the umask nor the time between bind and chmod
// opens it to anyone. What comes in is bounded all the same: the size of a request, how many are answered at once, and
// how long a client may take to send and to read. A client that hangs costs one goroutine, and that for a minute.
package control
