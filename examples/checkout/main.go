// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/assent-tx/assent"
)

// config says which databases to use.
type config struct {
	postgres, stock string
}

func main() {
	var cfg config
	flag.StringVar(&cfg.postgres, "postgres", "", "a PostgreSQL database's `DSN`, in which the tables checkout_… are made anew (default: a server is started)")
	flag.StringVar(&cfg.stock, "stock", "", "mariadb (a server is started), sqlite, or the `DSN` of a MySQL or MariaDB database, as go-sql-driver/mysql writes it "+
		"(default: mariadb if it is installed, else sqlite)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "checkout:", err)
		os.Exit(1)
	}
}

// purchase is what somebody wants: lamps at 12.50 each.
type purchase struct {
	id       int
	customer string
	pieces   int
	card     string
	channel  string // of the confirmation
}

func (p purchase) cents() int64 { return int64(p.pieces) * 1250 }

// story are the purchases, and who refuses each, "" for nobody.
var story = []struct {
	what    string
	refuses string
	purchase
}{
	{"carol buys two lamps", "", purchase{1, "carol", 2, "4000-01", "mail"}},
	{"mallory is no customer", "orders", purchase{2, "mallory", 1, "4000-01", "mail"}},
	{"carol wants more lamps than there are", "stock", purchase{3, "carol", 9, "4000-01", "mail"}},
	{"dave's card does not cover it", "payments", purchase{4, "dave", 1, "4000-02", "mail"}},
	{"dave wants his confirmation by fax, which goes nowhere", "outbox", purchase{5, "dave", 1, "4000-01", "fax"}},
	{"dave buys three lamps", "", purchase{6, "dave", 3, "4000-01", "mail"}},
}

// run tells the story, and checks it.
func run(ctx context.Context, out io.Writer, cfg config) (err error) {
	dir, err := os.MkdirTemp("", "checkout-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := open(ctx, cfg, dir, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }() //nolint:contextcheck // also when ctx has ended
	want := state{free: 10}
	for _, chapter := range story {
		fmt.Fprintf(out, "\n%s\n", chapter.what)
		if err := s.tell(ctx, out, chapter.purchase, chapter.refuses); err != nil {
			return err
		}
		if chapter.refuses == "" {
			want = want.with(chapter.purchase)
		}
		if err := s.check(ctx, out, want); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "\nevery order was taken whole or not at all")
	return nil
}

// tell places an order, and compares who refused it.
func (s *shop) tell(ctx context.Context, out io.Writer, p purchase, refuses string) error {
	var aborted *assent.AbortedError
	switch err := s.place(ctx, p); {
	case err == nil:
		fmt.Fprintln(out, "  committed")
	case errors.As(err, &aborted):
		fmt.Fprintf(out, "  nothing happened: %s says: %s\n", aborted.Participant, aborted.Reason)
	default:
		return err
	}
	if aborted == nil && refuses != "" || aborted != nil && aborted.Participant != refuses {
		return fmt.Errorf("order %d should have been refused by %q", p.id, refuses)
	}
	return s.settled(ctx)
}

// with is the state after one more purchase.
func (s state) with(p purchase) state {
	s.orders = append(s.orders[:len(s.orders):len(s.orders)], Order{p.id, p.customer, "lamp", p.pieces, p.cents()})
	s.free -= int64(p.pieces)
	s.taken += p.cents()
	s.confirmed++
	return s
}

func (s state) String() string {
	var b strings.Builder
	b.WriteString("    orders        ")
	for _, o := range s.orders {
		fmt.Fprintf(&b, "%d: %s, %d × %s, %s   ", o.ID, o.Customer, o.Pieces, o.Item, euros(o.Cents))
	}
	if len(s.orders) == 0 {
		b.WriteString("none")
	}
	text := strings.TrimRight(b.String(), " ")
	return text + fmt.Sprintf("\n    stock         %d free, %d reserved\n    payments      %s taken, %s held\n    confirmations %d",
		s.free, s.reserved, euros(s.taken), euros(s.holds), s.confirmed)
}

// check shows what the stores have, and compares it with what they must have.
func (s *shop) check(ctx context.Context, out io.Writer, want state) error {
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, now)
	if now.String() != want.String() {
		return fmt.Errorf("the stores do not have what they must have, which is\n%v", want)
	}
	return nil
}
