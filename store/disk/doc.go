// Package disk keeps flows in one data directory on one machine, and answers
// questions from it. DESIGN.md gives the reasons and the measurements.
//
//	DIR/dragnet-data      marks the directory
//	DIR/lock, DIR/readers locked by the program that writes, and by those that read
//	DIR/catalogue.json    which segments and imported sources there are
//	DIR/catalogue.copy.json the same; written just before it
//	DIR/segments/N.seg    up to 262,144 flows in order of time, column by column
//	DIR/segments/N.D.run  the keys of the standard questions under the salts of
//	                      epoch D, sorted, each with the block it occurs in
//
// A segment is written once, gets its final name only when it is on the disk,
// and is never changed. It counts once the catalogue lists it; replacing the
// catalogue is the only kind of commit. Files that the catalogue does not list
// are left from a crash, and are removed by the next writer.
package disk
