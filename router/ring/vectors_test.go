// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the vectors give into testdata")

// vectors is one file of testdata: what implementations in every language must agree on. The fields that a comment below
// calls given are the question, the others are the answer. With -rewrite the answers are written anew, to be reviewed as a
// diff.
type vectors[V any] struct {
	About   string `json:"about"`
	Vectors []V    `json:"vectors"`
}

// checkVectors answers the questions of a file anew.
func checkVectors[V any](t *testing.T, file string, answer func(t *testing.T, given V) V) {
	file = "testdata/" + file
	stored, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors[V]
	decoder := json.NewDecoder(bytes.NewReader(stored))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(v.Vectors) == 0 {
		t.Fatalf("%s holds no vectors", file)
	}
	for i := range v.Vectors {
		v.Vectors[i] = answer(t, v.Vectors[i])
	}
	got := v.text(t)
	if bytes.Equal(stored, got) || t.Failed() {
		return
	}
	if *rewrite {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	a, b := strings.Split(string(stored), "\n"), strings.Split(string(got), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s:%d: another ring than before. Programs of two versions, or of two languages, would not agree on who owns what.\nstored %s\nnow    %s",
				file, i+1, a[i], b[i])
		}
	}
	if !t.Failed() {
		t.Errorf("%s has %d lines; expected %d", file, len(a), len(b))
	}
}

// text is the file: a line each vector, or each step of one.
func (v *vectors[V]) text(t *testing.T) []byte {
	line := func(x any) string {
		data, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var lines []string
	for _, vector := range v.Vectors {
		lines = append(lines, strings.ReplaceAll(line(vector), `{"what":`, "\n  {\"what\":"))
	}
	return fmt.Appendf(nil, "{\"about\":%s,\n\"vectors\":[\n%s\n]}\n", line(v.About), strings.Join(lines, ",\n"))
}

// keyVector is a line of keys.json. Given are the key and how often it stands in a row, 0 being once, and the partitions'
// names, how many there are.
type keyVector struct {
	Key        string      `json:"key"`
	Times      int         `json:"times,omitempty"`
	Hash       string      `json:"hash"`
	Partitions map[int]int `json:"partitions"`
}

func TestVectorKeys(t *testing.T) {
	checkVectors(t, "keys.json", func(t *testing.T, v keyVector) keyVector {
		key := strings.Repeat(v.Key, max(v.Times, 1))
		v.Hash = fmt.Sprintf("%016x", Hash(key))
		for q := range v.Partitions {
			v.Partitions[q] = PartitionOf(Hash(key), q)
			if p := dumbPartition(key, q); p != v.Partitions[q] {
				t.Errorf("%.20q is in partition %d of %d; by the second implementation %d", key, v.Partitions[q], q, p)
			}
		}
		return v
	})
}

// drawVector is a line of draws.json. Given are the node, the partition and the weights in scores. Scores are texts, since
// they have more than 53 bits.
type drawVector struct {
	Node      string            `json:"node"`
	Partition int               `json:"partition"`
	Draw      string            `json:"draw"`
	Cost      uint64            `json:"cost"`
	Scores    map[uint64]string `json:"scores"`
}

func TestVectorDraws(t *testing.T) {
	checkVectors(t, "draws.json", func(t *testing.T, v drawVector) drawVector {
		k := keysOf(v.Partition)
		draw := k.draw(Hash(v.Node))
		v.Draw, v.Cost = fmt.Sprintf("%016x", draw), cost(draw)
		if draw != dumbDraw(v.Node, v.Partition) || v.Cost != dumbCost(draw) {
			t.Errorf("%s draws %x for partition %d; by the second implementation %x", v.Node, draw, v.Partition, dumbDraw(v.Node, v.Partition))
		}
		for weight := range v.Scores {
			v.Scores[weight] = fmt.Sprint(score(draw, weight))
		}
		return v
	})
}

// logVector is a line of log2.json: entries of the table T, eight a line, from the given one on.
type logVector struct {
	From int      `json:"from"`
	Log2 []uint64 `json:"log2"`
}

func TestVectorLog2(t *testing.T) {
	next := 0
	checkVectors(t, "log2.json", func(t *testing.T, v logVector) logVector {
		if v.From != next {
			t.Fatalf("from %d follows after %d", v.From, next)
		}
		next = min(v.From+8, len(log2))
		v.Log2 = log2[v.From:next]
		return v
	})
	if next != len(log2) {
		t.Errorf("%d entries of %d", next, len(log2))
	}
}

// tableVector is a history of tables.json: partitions that nobody owns at first, and what changes then.
type tableVector struct {
	Name       string      `json:"name"`
	Partitions int         `json:"partitions"`
	Steps      []tableStep `json:"steps"`
}

// tableStep is a change. Given are what it is, the nodes and the pins.
type tableStep struct {
	What string `json:"what"`
	// Nodes are listed; or they are so many: node-0 and so on, with the weight 1 + (number mod modulus).
	Nodes   []Node `json:"nodes,omitempty"`
	Count   int    `json:"count,omitempty"`
	Modulus int    `json:"modulus,omitempty"`
	Pins    Pins   `json:"pins,omitempty"`
	// Owners are, by partition, the places of the owners among the nodes sorted by name, from 1 on; 0 is nobody. For a large
	// table there is only XXH64, of these as big-endian numbers of 16 bits.
	Owners []uint16 `json:"owners,omitempty"`
	XXH64  string   `json:"xxh64"`
	Moves  int      `json:"moves"`
}

func (s *tableStep) members() []Node {
	nodes := slices.Clone(s.Nodes)
	for i := range s.Count {
		nodes = append(nodes, Node{Name: fmt.Sprintf("node-%d", i), Weight: 1 + i%max(s.Modulus, 1)})
	}
	return nodes
}

// listed is up to how many partitions a table is listed.
const listed = 64

func TestVectorTables(t *testing.T) {
	checkVectors(t, "tables.json", func(t *testing.T, v tableVector) tableVector {
		before := check(t)(New(v.Partitions, nil, nil))
		for i := range v.Steps {
			s := &v.Steps[i]
			after := check(t)(before.Next(s.members(), s.Pins))
			if v.Partitions <= listed {
				s.Owners = after.owners
				if second := dumbNext(owners(before), s.members(), s.Pins); !slices.Equal(second, owners(after)) {
					t.Errorf("%s, %s: by the second implementation %v", v.Name, s.What, second)
				}
			}
			var table []byte
			for _, owner := range after.owners {
				table = binary.BigEndian.AppendUint16(table, owner)
			}
			s.XXH64 = fmt.Sprintf("%016x", Hash(string(table)))
			s.Moves = len(Diff(before, after).Moves)
			before = after
		}
		return v
	})
}

// ownersVector is a line of owners.json. Given are the nodes, how many partitions New shares among them, the key and, by
// node, the loads, with the factor.
type ownersVector struct {
	Partitions int                `json:"partitions"`
	Nodes      []Node             `json:"nodes"`
	Key        string             `json:"key"`
	Owners     []string           `json:"owners"`
	Factor     float64            `json:"factor"`
	Loads      map[string]float64 `json:"loads"`
	Bounded    string             `json:"bounded"`
}

func TestVectorOwners(t *testing.T) {
	checkVectors(t, "owners.json", func(t *testing.T, v ownersVector) ownersVector {
		r := check(t)(New(v.Partitions, v.Nodes, nil))
		v.Owners = r.Owners(v.Key, len(v.Nodes))
		v.Bounded = r.Bounded(v.Key, v.Factor, func(node string) float64 { return v.Loads[node] })
		if second := dumbOwners(r.Owner(v.Key), v.Nodes, r.Partition(v.Key), true); !slices.Equal(second, v.Owners) {
			t.Errorf("owners of %q: by the second implementation %v", v.Key, second)
		}
		return v
	})
}
