package main

import "k8s.io/apimachinery/pkg/util/resourceversion"

// damages tells of one Secret whether a version of it may be our own work. It is pure. A watch delivers versions in their
// order, but late: what was whole before a damage may come after it.
type damages struct {
	// underway counts the damages whose version is not known yet. Until it is, nothing says which versions are before it.
	underway int
	// damaged is the newest version that we damaged; empty once a whole one came after it.
	damaged string
	// whole is the newest whole version that was seen.
	whole string
}

// expect notes that a version is about to be damaged.
func (d *damages) expect() { d.underway++ }

// known notes as which version a damage was taken.
func (d *damages) known(version string) {
	d.underway--
	if d.damaged == "" || isNewer(version, d.damaged) {
		d.damaged = version
	}
	d.settle()
}

// withdrawn notes that a damage was surely not taken.
func (d *damages) withdrawn() {
	d.underway--
	d.settle()
}

// see takes in a version, and reports whether it may be our work: damaged by us, or made of what we damaged.
func (d *damages) see(version string, isWhole bool) bool {
	ours := d.underway > 0 || d.damaged != ""
	if isWhole && (d.whole == "" || isNewer(version, d.whole)) {
		d.whole = version
	}
	d.settle()
	return ours
}

// settle ends the excuse once a whole version came after the damaged one.
func (d *damages) settle() {
	if d.underway == 0 && d.damaged != "" && isNewer(d.whole, d.damaged) {
		d.damaged = ""
	}
}

// isNewer compares two versions of one object; what is no version is newer than none.
func isNewer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}
