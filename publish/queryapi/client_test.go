package queryapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"dragnet/publish/publishtest"
)

// TestGeneratedClient reads the list with a client that oapi-codegen made of
// openapi.json, as users' programs do.
func TestGeneratedClient(t *testing.T) {
	c := newChecked(t)
	server := httptest.NewServer(c.server)
	defer server.Close()
	client, err := NewClientWithResponses(server.URL + "/api/v1")
	if err != nil {
		t.Fatal(err)
	}
	// All entries of a filter, page by page.
	filter, limit := `host=0.0.0.0/0 and confidence>=50`, 700
	params, hosts := &ListEntriesParams{Filter: &filter, Limit: &limit}, map[string]bool{}
	for pages := 1; ; pages++ {
		page, err := client.ListEntriesWithResponse(t.Context(), params)
		if err != nil || page.JSON200 == nil {
			t.Fatalf("page %d: %v, %s", pages, err, page.Body)
		}
		for _, e := range page.JSON200.Entries {
			if hosts[e.Host] || e.Reason == "" || !e.Until.After(e.Listed) {
				t.Errorf("entry %+v", e)
			}
			hosts[e.Host] = true
		}
		if page.JSON200.Next == "" {
			break
		}
		params = &ListEntriesParams{Cursor: &page.JSON200.Next, Limit: &limit}
	}
	if len(hosts) != 2250 || !hosts[publishtest.Host(0).String()] {
		t.Errorf("%d hosts, want the 2250 of IPv4", len(hosts))
	}
	host, err := client.ShowHostWithResponse(t.Context(), publishtest.Host(7).String())
	if err != nil || host.JSON200 == nil || !host.JSON200.Listed {
		t.Errorf("a host: %v, %s", err, host.Body)
	}
	groups, err := client.ListGroupsWithResponse(t.Context(), &ListGroupsParams{})
	if err != nil || groups.JSON200 == nil || len(groups.JSON200.Groups) != 3 {
		t.Fatalf("groups: %v, %s", err, groups.Body)
	}
	one, err := client.ShowGroupWithResponse(t.Context(), groups.JSON200.Groups[0].Group)
	if err != nil || one.JSON200 == nil || one.JSON200.Group != groups.JSON200.Groups[0].Group {
		t.Errorf("a group: %v, %s", err, one.Body)
	}
	changes, err := client.ListChangesWithResponse(t.Context(), &ListChangesParams{Limit: &limit})
	if err != nil || changes.JSON200 == nil || len(changes.JSON200.Changes) != limit {
		t.Errorf("changes: %v, %.200s", err, changes.Body)
	}
	// Errors come in their form, too.
	wrong := "confidence>="
	bad, err := client.ListEntriesWithResponse(t.Context(), &ListEntriesParams{Filter: &wrong})
	if err != nil || bad.JSON400 == nil || bad.StatusCode() != http.StatusBadRequest {
		t.Errorf("a wrong filter: %v, %s", err, bad.Body)
	}
	none, err := client.ShowGroupWithResponse(t.Context(), "nothing")
	if err != nil || none.JSON404 == nil {
		t.Errorf("no such group: %v, %s", err, none.Body)
	}
}
