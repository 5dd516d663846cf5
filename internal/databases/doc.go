// SPDX-License-Identifier: Apache-2.0

// Package databases starts real database servers, PostgreSQL and MariaDB, of their own: for tests, for `assent bench stores`
// and for examples. It uses the programs that are installed, and nothing of an installation that is running: data, socket
// and log are in folders of its own, and nobody else can connect (a socket in a folder that is closed to others, no port).
//
//	func TestMain(m *testing.M) { os.Exit(databases.Main(m).Run()) } // ends the shared servers
//
//	dsn := databases.SharedPostgres(t).Database(t) // a database for this test, on the test binary's server
//	own := databases.Postgres(t)                   // one for this test alone, to be killed
//	own.Kill(); own.Start()                        // as after a power cut, less what the disk loses
//
// Without the programs a test is skipped, and says what to install; with ASSENT_DATABASES=required, as in CI, it fails.
//
// # What it guarantees
//
//   - Durability is the server's own: every commit is synced before it is acknowledged, unless the settings say otherwise.
//   - Kill leaves none of the server's processes running, and Start takes up the same data at the same DSN.
//   - On Linux the server dies with the process that started it, also when that is killed with SIGKILL. Elsewhere it
//     outlives a killed process.
//   - Started by root, a server runs as the user nobody, since neither likes to be root. The folder has to be within its reach.
//
// A killed process leaves the folders behind, as with testing's TempDir.
package databases
