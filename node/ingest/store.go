package ingest

import (
	"context"

	"dragnet/store"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
)

// OpenWriter opens a data directory, or the database at a clickhouse:// address,
// for writing, and creates it if it does not exist. New flows get keys of epoch.
func OpenWriter(ctx context.Context, place, epoch string) (store.Writer, error) {
	if clickhouse.Is(place) {
		w, err := clickhouse.OpenWriter(ctx, place)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	w, err := disk.NewWriter(place, epoch)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// OpenReader opens a data directory, or the database at a clickhouse:// address,
// for reading.
func OpenReader(ctx context.Context, place string) (store.Reader, error) {
	if clickhouse.Is(place) {
		s, err := clickhouse.Open(ctx, place)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := disk.Open(place)
	if err != nil {
		return nil, err
	}
	return s, nil
}
