// SPDX-License-Identifier: Apache-2.0

// Package ring says which node of a group owns a key: consistent hashing by a table of partitions, in which every node has
// exactly its part and nothing moves that need not. It is pure: no I/O, no clock, no randomness. Whoever has the same table
// of owners gives the same answers, in whatever language; what follows is all that it takes, and testdata has vectors.
//
//	0                   XXH64 of the key                    2^64
//	├───0──┼───1──┼───2──┼───3──┼───4──┼───5──┼───6──┼───7──┤   partitions
//	│   b  │   a  │   c  │   b  │   a  │   a  │   c  │   b  │   owners
//
//	                  c leaves: only what it had moves
//	│   b  │   a  │   a  │   b  │   a  │   a  │   b  │   b  │
//	                  ↑                           ↑
//	                  d joins: only to d, and no more than its part
//	│   b  │   d  │   a  │   b  │   a  │   a  │   d  │   b  │
//	           ↑                                  ↑
//
// # What is guaranteed
//
//   - Balance: without pins a node owns the floor or the ceiling of Q × weight / sum of weights partitions.
//   - Least movement: no table with such counts, and with the pins kept, differs from the one before in fewer partitions.
//   - What does not change, does not move: when one node joins, leaves or changes its weight, partitions move only from or to
//     it. To keep the balance exact, unequal weights may need corrections besides: at most one partition for each node that
//     did not change, and none if these all have one weight. Plan counts them.
//   - Order of listing, platform and time are of no account.
//
// What is not: keys fall on the circle as XXH64 scatters them, so of those that a node should have it has so many, give or
// take the square root of their number. Of a thousand nodes with a million keys the fullest has some 10 % more than its
// part, by chance alone, as with any hash. The hash is not keyed: who may choose keys can aim at a node. A key that is popular by itself is
// for Bounded, or for a pin of its partition. Two rings with the same nodes but other histories may differ; the table is
// the truth, and is what is to be stored.
//
// How many partitions: 4096, or 64 for each node if there will be more than 64 nodes. A node whose part is k partitions has
// less than 1 too many or too few. More cost 2 bytes each, and some time when the ring changes; lookups take the same time.
//
// # The algorithm
//
// All numbers are unsigned, of 64 bits; + and × lose what goes beyond, >> fills with zeros, / rounds down. high and low are
// the halves of a product's 128 bits.
//
// Hash. XXH64 with seed 0 of a key's bytes. Its partition of Q, from 0, is high(hash × Q).
//
// Draws. A node's seed is the hash of its name. Its draw for partition p, with place = p mod 16, is
//
//	mix(a, b)   = high(a × b) xor low(a × b)
//	scramble(x) = SplitMix64: x = x + 0x9e3779b97f4a7c15
//	                          x = (x xor x>>30) × 0xbf58476d1ce4e5b9
//	                          x = (x xor x>>27) × 0x94d049bb133111eb
//	                          x xor x>>31
//	h           = mix(seed, scramble(p / 16))
//	top         = (((h>>56) | 1) × place + (h>>60)) mod 16
//	draw        = top × 2^60 + mix(seed, scramble(65536 + p))>>4
//
// The top four bits are so that of 16 partitions a node draws each value of them once, which is how its favourites are
// found fast; else one mix would do.
//
// Scores. Weighted rendezvous prefers the node with the least -log(draw) / weight, which gives each node its part by weight
// (Schindelhauer & Schomaker, "Weighted distributed hash tables", SPAA 2005). In whole numbers, with
//
//	z     = draw | 1, and n = the number of its leading zero bits
//	m     = z << n
//	i     = (m>>55) mod 256, f = (m>>23) mod 2^32
//	T[i]  = floor(2^32 × log2(1 + i/256))
//	cost  = (n + 1) × 2^32 - (T[i] + ((T[i+1] - T[i]) × f >> 32))
//	score = cost × 2^20 / weight
//
// The less the better; if equal, the greater draw, then the lower partition, then the greater weight, then the name that
// comes first by bytes. A node of weight 0 is not preferred for anything.
//
// Next. From the owners before, the nodes and the pins:
//
//  1. A partition whose owner is not among the nodes or has weight 0 has none. A pinned partition is owned by its node, if
//     that has a weight. Let c be how many partitions a node owns now, and k how many of these are pinned to it.
//  2. Let R = Q, and W be the sum of weights. All nodes with k × W > R × weight get the target k, and are left out: R is
//     less by their k, W by their weights. Again, until there is no such node.
//  3. The target of each other node is R × weight / W. What is then left of R goes to them, one more for each: to those with
//     R × weight mod W > 0, first those whose c is more than their target, then those whose c is less, then the rest; in each
//     class by R × weight mod W, greatest first, if equal by seed, least first, then by name.
//  4. While a node owns less than its target: of all partitions that are not pinned by step 1 and that have no owner or one
//     with more than its target, and all nodes with less than theirs, take the pair with the best score, and give the
//     partition to the node.
//
// New is Next from a table without owners.
//
// Owners of a key. First the owner, if there is one; then the other nodes with a weight by their scores for the partition.
// Zones: go through them by rounds, where a node's round is how many of its zone were taken before; the next is the
// best of those in the lowest round. A node without a zone has a zone of its own.
//
// Bounded. The first of that order, without regard to zones, whose load is less than ceil(factor × (1 + sum of loads) ×
// weight / sum of weights), where nodes with an infinite load are left out (Mirrokni, Thorup & Zadimoghaddam, "Consistent
// hashing with bounded loads", SODA 2018). Loads are binary floating point of 64 bits, reckoned from the left, summed in the
// order of names.
//
// # Why it is so
//
// Rings of virtual nodes (Karger et al., STOC 1997) are uneven, jump hash (Lamping & Veach, 2014) can remove only the last
// node, Maglev (Eisenbud et al., NSDI 2016) moves partitions between nodes that did not change, and rendezvous (Thaler &
// Ravishankar, 1998) asks every node for every key. A table that remembers who owns what, changed under a quota, has the
// lookup of Maglev, the movement of rendezvous, and a better balance than each of them.
package ring
