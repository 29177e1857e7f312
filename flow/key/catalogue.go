package key

// Standard is a question of the common catalogue (section 3.3): witnesses may
// compute its keys as records arrive and look them up instead of hashing every
// record when asked.
type Standard struct {
	// ID is what a question carries; 0 is never used.
	ID   uint16
	Name string
	End  End
	Mask Mask
}

// Catalogue lists the standard questions. IDs are never reused.
func Catalogue() []Standard {
	service4 := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	service6 := Mask{Family: IPv6, Prefix: 128, DPort: true, Proto: true}
	host4 := Mask{Family: IPv4, Prefix: 32}
	host6 := Mask{Family: IPv6, Prefix: 128}
	return []Standard{
		{1, "out-service", Out, service4}, {2, "out-service6", Out, service6},
		{3, "in-service", In, service4}, {4, "in-service6", In, service6},
		{5, "out-host", Out, host4}, {6, "out-host6", Out, host6},
		{7, "in-host", In, host4}, {8, "in-host6", In, host6},
	}
}

// StandardID is the catalogue's number for a mask at an end, 0 if it has none.
func StandardID(end End, m Mask) uint16 {
	for _, s := range Catalogue() {
		if s.End == end && s.Mask == m {
			return s.ID
		}
	}
	return 0
}
