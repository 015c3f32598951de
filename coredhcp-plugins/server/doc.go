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
//   - listen.go, datagram.go, gate.go: one socket for each configured address, read
//     in batches; an interface that does not exist yet is waited for. Under load a
//     socket is read once in a millisecond, and nothing is woken meanwhile: what
//     comes shares the wake-up, the group of the database and the system call for
//     the answers, which cost more than all the rest;
//   - queue.go: what waits is bounded. DISCOVERs are dropped first, so that the
//     number of clients that are served stays the same however many come; what has
//     waited longer than a client waits is dropped;
//   - lane.go, workers.go: where all plugins say that they never wait (see
//     [Prompt]), the goroutine that reads works on a request itself; else one of a
//     fixed number of workers does, always the same for one client;
//   - again.go: what has to wait for the network is put aside, and worked on again;
//   - decode.go: the packet is checked, option overload (52) is undone, and the
//     rest is parsed into the type of CoreDHCP's library;
//   - chain.go: the plugins, in the order of the configuration file;
//   - encode.go: the reply is written, options in the order the client asked
//     for and within the size it can take;
//   - route.go, ethernet.go: where the reply goes (RFC 2131 section 4.1), and the
//     Ethernet frames for clients that have no address yet;
//   - outbox.go: replies that are ready together leave together, those that wait
//     for the disk when their group is there (see [Exchange.Hold]).
//
// Everything a stranger can send is bounded: the size of a packet, the number
// of packets that wait, and the number of lines that this package logs for them.
package server
