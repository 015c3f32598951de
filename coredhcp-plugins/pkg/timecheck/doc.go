// Package timecheck says which time servers are worth telling a client of.
//
// A server that answers is not yet one that knows the time. Its own answer says whether it is synchronised and how far it is from a clock
// (RFC 5905 section 11.2); whether it is right can only be said by its peers. So each server is asked now and then, and one whose
// time is far from the median of them all is out. The machine that this runs on is not trusted more than any of them: its clock is
// a stop watch here, and setting it changes no judgement.
//
// No client waits for any of this. Servers are asked in the background, politely: once a minute or so with a random part, more rarely
// when they do not answer or ask for it by a kiss code (RFC 5905 section 7.4). What was found is published as a whole for readers that
// take no lock. If no server of a list is good the list is given as it was configured: a bad list is better than none.
package timecheck
