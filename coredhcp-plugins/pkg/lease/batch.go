package lease

// batch is changes of the database that are written together, all in one buffer.
type batch struct {
	data    []byte
	changes []batchChange
}

// batchChange is where in the buffer a change ends: its key, and its value behind it.
type batchChange struct {
	key, value int
	remove     bool
}

// set adds a record; key and value append what they are.
func (b *batch) set(key, value func([]byte) []byte) {
	b.data = key(b.data)
	n := len(b.data)
	b.data = value(b.data)
	b.changes = append(b.changes, batchChange{n, len(b.data), false})
}

// remove adds the removal of a record.
func (b *batch) remove(key func([]byte) []byte) {
	b.data = key(b.data)
	b.changes = append(b.changes, batchChange{len(b.data), len(b.data), true})
}

// each hands the changes to f in their order; the value is nil if the record is removed. f must not keep either.
func (b *batch) each(f func(key, value []byte) error) error {
	begin := 0
	for _, c := range b.changes {
		value := b.data[c.key:c.value:c.value]
		if c.remove {
			value = nil
		}
		if err := f(b.data[begin:c.key:c.key], value); err != nil {
			return err
		}
		begin = c.value
	}
	return nil
}

// literal is for set and remove: it appends what there is already.
func literal[T string | []byte](s T) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, s...) }
}
