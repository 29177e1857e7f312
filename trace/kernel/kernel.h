/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The few kernel types the programs read, with only the fields they read:
 * the loader relocates every access to the running kernel's layout (CO-RE),
 * so no copy of a particular kernel's headers is needed. */
#pragma once

#include <linux/types.h>

#define CORE __attribute__((preserve_access_index))

struct ns_common { unsigned int inum; } CORE;
struct pid_namespace { struct ns_common ns; } CORE;
struct upid { int nr; struct pid_namespace *ns; } CORE;
struct pid { unsigned int level; struct upid numbers[1]; } CORE;
struct net { struct ns_common ns; } CORE;
struct nsproxy { struct net *net_ns; } CORE;

typedef struct { __u32 val; } CORE kuid_t;
struct cred { kuid_t uid; } CORE;
struct mm_struct { unsigned long arg_start; unsigned long arg_end; } CORE;
struct tty_struct { char name[64]; } CORE;
struct signal_struct { struct tty_struct *tty; } CORE;
struct kernfs_node { const char *name; } CORE;
struct cgroup { struct kernfs_node *kn; } CORE;
struct css_set { struct cgroup *dfl_cgrp; } CORE;

struct task_struct {
	int pid;
	int tgid;
	const struct cred *cred;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct css_set *cgroups;
	kuid_t loginuid;
	unsigned int sessionid;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct nsproxy *nsproxy;
	__u64 start_boottime;
} CORE;

struct super_block { __u32 s_dev; } CORE;
struct inode { __u16 i_mode; unsigned long i_ino; struct super_block *i_sb; } CORE;
struct file { struct inode *f_inode; unsigned int f_mode; } CORE;

struct in6_addr { union { __u8 u6_addr8[16]; } in6_u; } CORE;
typedef struct { struct net *net; } CORE possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} CORE;
struct inet_sock { __be16 inet_sport; } CORE;

struct socket;
typedef struct { int owned; } CORE socket_lock_t;
struct sock { struct sock_common __sk_common; __u16 sk_protocol; struct socket *sk_socket; socket_lock_t sk_lock; kuid_t sk_uid; } CORE;
struct socket { struct sock *sk; } CORE;
struct socket_alloc { struct socket socket; struct inode vfs_inode; } CORE;
struct unix_sock { struct sock *peer; } CORE;

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; __u64 session_id; __u64 seq_num; } CORE;
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} CORE;
