// Package server is a serve loop for CoreDHCP plugins.
//
// It takes CoreDHCP's own configuration file and runs every CoreDHCP plugin
// unchanged, beside plugins of a second kind (see [Plugin]) that need what
// CoreDHCP's handlers are not given: a start and a clean stop, the interface
// that a packet came in on, and the message types that CoreDHCP's own loop
// drops (DHCPDECLINE, BOOTP).
//
// It exists because CoreDHCP's loop starts one goroutine for each packet, so
// that a client's DHCPRELEASE can overtake its DHCPREQUEST; answers DHCPRELEASE;
// opens and closes a raw socket for each answer; has no bound on the work it
// takes on; and cannot be stopped. Here a packet goes through these steps, each
// in a file of its own:
//
//   - listen.go: one socket for each configured address, read in batches; an
//     interface that does not exist yet is waited for;
//   - workers.go: a fixed number of workers with bounded queues; a client's
//     packets all go to the same worker and so stay in order;
//   - decode.go: the packet is checked, option overload (52) is undone, and
//     CoreDHCP's library parses what is left;
//   - chain.go: the plugins, in the order of the configuration file;
//   - encode.go: the reply is written, options in the order the client asked
//     for and within the size it can take;
//   - route.go, ethernet.go: where the reply goes (RFC 2131 section 4.1), and the
//     Ethernet frames for clients that have no address yet.
//
// Everything a stranger can send is bounded: the size of a packet, the number
// of packets that wait, and the number of lines that this package logs for them.
package server
