// Package ask holds the two sides of loose private matching (Allman et al.
// 2006, section 3) and what lies between them:
//
//   - detective turns a pattern into a question and opens what comes back;
//   - witness answers questions from its log;
//   - seal is the cryptography both use.
//
// Witness and detective never import each other: all that passes between them
// is bytes, those of a dossier.Question one way and of a sealed
// dossier.Testimony the other.
//
// # One exchange
//
//  1. The detective hashes each clue's components to a key K of few bits, and
//     blinds them for the witness's oblivious function.
//  2. The witness hashes its flows under the same mask and salt. Every flow
//     with that K matches; it cannot tell which were meant.
//  3. It groups hosts by component tuple, joins the clues if asked to, seals
//     each group under a key made from the tuple through its function, and adds
//     the function's value at the blinded tuple.
//  4. The detective unblinds that value, derives its one key, and tries it on
//     every answer. What opens is testimony; the rest was collision.
//
// # What each learns
//
// The witness: direction, mask, state filter, window, shape of the pattern, and
// that one of Candidates tuples is meant. The detective: hosts under its own
// tuples, the number of answers, and the coverage. A relay: sizes and times.
package ask
