package mirror

import (
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"os"
)

// Handler serves the newest publication. Each file has its hash as ETag and the
// time of the publication as Last-Modified, so that an unchanged file costs a
// reader one short answer.
func (t *Tree) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the mirror is only read", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		var m *Manifest
		var file FileHash
		var f *os.File
		for f == nil {
			if m = t.last.Load(); m == nil || m.Head.Root == "" {
				http.Error(w, "nothing has been published yet", http.StatusServiceUnavailable)
				return
			}
			listed := true
			if file, listed = m.Find(name); name == ManifestName || name == SignatureName {
				file, listed = FileHash{Path: name, SHA256: m.Head.Root}, true
			}
			if !listed {
				http.NotFound(w, r)
				return
			}
			var err error
			f, err = os.Open(filepath.Join(t.folderOf(m.Head.Number), filepath.FromSlash(file.Path)))
			if errors.Is(err, fs.ErrNotExist) && t.last.Load() != m {
				continue // newer publications had it removed meanwhile
			}
			if err != nil {
				http.Error(w, "the file cannot be read", http.StatusInternalServerError)
				return
			}
		}
		defer f.Close()
		w.Header().Set("ETag", `"`+file.SHA256+`"`)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Content-Type", contentType(name))
		http.ServeContent(w, r, name, m.Head.Time.Time().Truncate(time.Second), f)
	})
}

func contentType(name string) string {
	switch filepath.Ext(name) {
	case ".json":
		return "application/json"
	case ".jsonl":
		return "application/x-ndjson"
	case ".csv":
		return "text/csv; charset=utf-8"
	case ".sig":
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}
